/** A QEMU's command line, changed so that it waits for a VM beside other QEMUs. */
import { existsSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { PostcopyError } from '../errors.js'
import { printable } from '../printable.js'
import { type ObjectText, parseObjectText } from './object-text.js'
import { escaped, OptionText } from './option-text.js'
import type { Origin } from './origin-file.js'

const DEFAULT_BINARY = 'qemu-system-x86_64'

export interface QemuCommand {
  readonly binary: string
  readonly args: readonly string[]
  readonly directory: string
  /** Whether it is the command of the parked QEMU. */
  readonly isRecorded: boolean
}

/** Options of the parked QEMU that a waiting one must not have; `true`: with an argument. */
const DROPPED = new Map([
  ['incoming', true],
  ['loadvm', true],
  ['pidfile', true],
  ['daemonize', false],
])
/** Options that may have `unix:PATH,server=on`. */
const CHARACTER_DEVICES = ['qmp', 'qmp-pretty', 'monitor', 'serial', 'parallel', 'gdb', 'debugcon']

/**
 * @param words - after `--`: a program with arguments, or only arguments
 * @throws PostcopyError `ERR_NO_LAUNCH_RECORD` without words and without a record
 */
export function chooseCommand(words: readonly string[], origin: Origin | undefined): QemuCommand {
  const launch = origin?.launch
  const [first] = words
  if (first === undefined) {
    if (launch === undefined) {
      throw new PostcopyError(
        'ERR_NO_LAUNCH_RECORD',
        'how the QEMU of this VM was started is not recorded: give its command after --, as in -- qemu-system-x86_64 -machine pc',
      )
    }
    const { binary, directory } = launch
    return { binary, args: recordedArgs(launch.args, origin), directory, isRecorded: true }
  }
  const hasBinary = !first.startsWith('-')
  return {
    binary: hasBinary ? first : (launch?.binary ?? DEFAULT_BINARY),
    args: hasBinary ? words.slice(1) : words,
    directory: process.cwd(),
    isRecorded: false,
  }
}

/** A guest that ran was not paused by `-S`, and one that was paused stays so. */
function recordedArgs(args: readonly string[], origin: Origin | undefined): string[] {
  const kept: string[] = []
  for (let at = 0; at < args.length; at += 1) {
    const word = args[at] ?? ''
    const name = nameOf(word)
    const hasValue = DROPPED.get(name)
    if (hasValue === true) at += 1
    if (hasValue === undefined && name !== 'S') kept.push(word)
  }
  return origin?.wasRunning === false ? [...kept, '-S'] : kept
}

export interface Separation {
  /** For the sockets of this clone. */
  readonly folder: string
  readonly directory: string
  /** Whether several clones are started. */
  readonly isOneOfMany: boolean
}

/**
 * Moves the sockets that QEMU would listen on into the folder of the clone: QEMU takes the path of
 * another QEMU's socket without an error. For one clone, only those whose path exists.
 *
 * @param args - changed
 * @returns a message for each moved socket
 */
export function separateSockets(args: string[], separation: Separation): string[] {
  const { folder, directory, isOneOfMany } = separation
  const moved: string[] = []
  const move = (path: string, index: number): string | undefined => {
    if (!isOneOfMany && !existsSync(resolve(directory, path))) return undefined
    const fresh = `${folder}/socket-${index}`
    moved.push(`${printable(path)} is ${fresh} for this clone`)
    return fresh
  }
  for (const [at, word] of args.entries()) {
    const value = args[at + 1]
    if (!word.startsWith('-') || value === undefined) continue
    const name = nameOf(word)
    const options = OptionText.parse(value)
    const listens = options.isOn('server') || options.keys.includes('server')
    if (CHARACTER_DEVICES.includes(name) && value.startsWith('unix:') && listens) {
      const path = move((options.implied ?? '').slice('unix:'.length), at)
      if (path === undefined) continue
      options.setImplied(`unix:${path}`)
      args[at + 1] = options.toString()
    } else if (name === 'chardev' && options.implied === 'socket' && listens) {
      const before = options.get('path')
      const path = before === undefined ? undefined : move(before, at)
      if (path === undefined) continue
      options.set('path', path)
      args[at + 1] = options.toString()
    } else if (name === 'vnc' && value.startsWith('unix:')) {
      const path = move((options.implied ?? '').slice('unix:'.length), at)
      if (path !== undefined) args[at + 1] = `unix:${escaped(path)}`
    } else if (name === 'vnc' && isOneOfMany && options.get('to') === undefined) {
      // QEMU then takes the next display that is free.
      args[at + 1] = `${value},to=99`
    }
  }
  return moved
}

/** Files that QEMU uses as memory. It discards their content when it takes a VM. */
export function memoryFiles(args: readonly string[], directory: string): string[] {
  return args.flatMap((word, at) => {
    const value = args[at + 1] ?? ''
    const name = word.startsWith('-') ? nameOf(word) : ''
    const path = name === 'mem-path' ? value : objectIn(name, value)?.get('mem-path')
    if (path === undefined) return []
    const file = resolve(directory, path)
    const stat = statSync(file, { throwIfNoEntry: false })
    // In a directory, QEMU makes a file of its own.
    return stat === undefined || stat.isDirectory() ? [] : [file]
  })
}

/**
 * @throws PostcopyError `ERR_MEMORY_FILE` if QEMU would discard the content of a file that exists,
 *   which may be the memory of a running QEMU
 */
export function checkMemoryFiles(args: readonly string[], directory: string): void {
  const [file] = memoryFiles(args, directory)
  if (file === undefined) return
  throw new PostcopyError(
    'ERR_MEMORY_FILE',
    `QEMU would discard the content of ${printable(file)} when it takes the VM, also if it is the memory of a running QEMU: remove the file if nothing uses it, or give a command after -- with another mem-path`,
  )
}

/**
 * What several clones cannot share, and cannot be given apart. QEMU ends with an error for a port
 * that is taken, but not for a shared memory file.
 *
 * @throws PostcopyError `ERR_CLONES_CLASH`
 */
export function checkClash(args: readonly string[], directory: string): void {
  const clashes = args.flatMap((word, at) => {
    const value = args[at + 1] ?? ''
    const name = nameOf(word)
    const text = `-${name} ${printable(value)}`
    if (!word.startsWith('-')) return []
    if (name === 's') return ['-s']
    const options = OptionText.parse(value)
    const server = options.keys.includes('server')
    const isTcp = /^(?:tcp|telnet|websocket|tn3270):/.test(value)
    if (CHARACTER_DEVICES.includes(name) && isTcp && (server || name === 'gdb')) return [text]
    const isSocket = name === 'chardev' && options.implied === 'socket'
    if (isSocket && server && options.get('port') !== undefined) return [text]
    if (options.keys.includes('hostfwd')) return [text]
    if (name === 'spice' && options.get('port') !== undefined) return [text]
    const object = objectIn(name, value)
    const memory = object?.get('mem-path')
    if (memory === undefined || object?.isOn('share') !== true) return []
    const isFolder = statSync(resolve(directory, memory), { throwIfNoEntry: false })?.isDirectory()
    return isFolder === true ? [] : [text]
  })
  if (clashes.length === 0) return
  throw new PostcopyError(
    'ERR_CLONES_CLASH',
    `several clones cannot share a port or a memory file: ${clashes.join('; ')}. Start them one after the other, each with a command of its own after --`,
  )
}

/** The object that `-object` makes. */
function objectIn(name: string, value: string): ObjectText | undefined {
  return name === 'object' ? parseObjectText(value) : undefined
}

function nameOf(word: string): string {
  return word.replace(/^--?/, '')
}
