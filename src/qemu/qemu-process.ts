/** How a running QEMU was started, from `/proc/PID`. */
import { readFileSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'
import { errorToRecord, PostcopyError } from '../errors.js'
import { printable } from '../printable.js'

export interface LaunchRecord {
  /** The program, as an absolute path. */
  readonly binary: string
  readonly version: string
  /** Without the name of the program. */
  readonly args: readonly string[]
  /** Its working directory, to which its paths are relative. */
  readonly directory: string
}

/** Linux appends it to the path of a file that was removed or replaced. */
const DELETED = ' (deleted)'

/**
 * @param version - as QEMU reports it
 * @throws PostcopyError `ERR_LAUNCH_RECORD` if it cannot be known
 */
export function readLaunch(pid: number, version: string): LaunchRecord {
  if (pid <= 0) throw unknown('the process of that QMP socket is not visible here')
  const [bytes, binary, directory] = readProcess(pid)
  const words = splitWords(bytes)
  // A socket that another program has opened and passed to QEMU has that program as its peer.
  if (!/qemu/i.test(basename(binary)) && !/qemu/i.test(basename(words[0] ?? ''))) {
    throw unknown(`the QMP socket belongs to ${printable(binary)} (process ${pid})`)
  }
  const isReplaced = binary.endsWith(DELETED)
  const path = isReplaced ? binary.slice(0, -DELETED.length) : binary
  const args = words.slice(1)
  const isDaemon = directory === '/' && args.some((word) => /^--?daemonize$/.test(word))
  return { binary: path, version, args, directory: isDaemon ? firstDirectory(pid) : directory }
}

/** `-daemonize` changes to `/` after all paths are opened: where QEMU was started is in PWD. */
function firstDirectory(pid: number): string {
  try {
    const words = splitWords(readFileSync(`/proc/${pid}/environ`))
    const pwd = words.find((word) => word.startsWith('PWD=/'))?.slice('PWD='.length)
    return pwd ?? '/'
  } catch {
    return '/'
  }
}

function readProcess(pid: number): [Buffer, string, string] {
  try {
    const folder = `/proc/${pid}`
    return [
      readFileSync(`${folder}/cmdline`),
      readlinkSync(`${folder}/exe`),
      readlinkSync(`${folder}/cwd`),
    ]
  } catch (error) {
    const { code } = errorToRecord(error)
    throw unknown(`/proc/${pid} cannot be read (${code})`)
  }
}

/** A program can be started again only with words that are UTF-8. */
function splitWords(bytes: Buffer): string[] {
  const text = bytes.toString('utf8')
  if (!Buffer.from(text).equals(bytes)) {
    throw unknown('an argument of that QEMU has bytes that are not UTF-8')
  }
  const words = text.split('\0')
  words.pop()
  return words
}

function unknown(why: string): PostcopyError {
  return new PostcopyError('ERR_LAUNCH_RECORD', `how QEMU was started is not known: ${why}`)
}
