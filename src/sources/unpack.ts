/** Unpacks a compressed stream by the programs that QEMU's and libvirt's users pack it with. */
import { spawn } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { printable } from '../printable.js'
import type { Compression } from './recognize.js'
import { SavedFileError } from './saved-error.js'

const PIECE_BYTES = 256 * 1024
const MOST_COMPLAINT_BYTES = 1000

/**
 * Yields the unpacked bytes from `offset` to the end of the file.
 *
 * @param signal - abort ends the program, and with it the bytes
 * @throws SavedFileError `ERR_SAVED_UNPACK` if the program is missing, or cannot unpack the file
 */
export async function* unpacked(
  path: string,
  offset: number,
  compression: Compression,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const child = spawn(compression, ['-dc'], { stdio: ['pipe', 'pipe', 'pipe'] })
  const input = createReadStream(path, { start: offset, highWaterMark: PIECE_BYTES })
  let unread: Error | undefined
  input.on('error', (error) => {
    unread = error
    child.stdin.destroy()
  })
  // The program may end before it has read all.
  child.stdin.on('error', () => input.destroy())
  input.pipe(child.stdin)
  let complaint = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (complaint.length < MOST_COMPLAINT_BYTES) complaint += text
  })
  // Not `once`, which would reject for a program that cannot be started.
  const ended = new Promise<End>((resolve) => {
    child.once('error', resolve)
    child.once('close', (code, endedBy) => resolve(code ?? endedBy))
  })
  const stop = (): void => {
    input.destroy()
    child.kill()
    // Otherwise a process that the program has started could keep this one alive.
    for (const pipe of child.stdio) pipe?.destroy()
  }
  signal?.addEventListener('abort', stop, { once: true })
  try {
    signal?.throwIfAborted()
    for await (const piece of child.stdout) yield piece as Uint8Array
    signal?.throwIfAborted()
    const status = await ended
    if (status instanceof Error) throw missing(path, compression, status)
    if (unread !== undefined) throw unread
    if (status !== 0) throw refused(path, offset, compression, wordsOf(complaint, status))
  } finally {
    signal?.removeEventListener('abort', stop)
    stop()
  }
}

/** The exit status, the name of the signal, or why it could not be started. */
type End = number | NodeJS.Signals | Error | null

function wordsOf(complaint: string, status: End): string {
  const words = printable(complaint.trim(), MOST_COMPLAINT_BYTES)
  return words === '' ? `it ended with ${String(status)}, without a message` : words
}

function missing(path: string, compression: string, cause: Error): SavedFileError {
  const text = `it is compressed, and the program ${compression} cannot be started: install it`
  return new SavedFileError('unpack', { path }, text, { cause })
}

function refused(path: string, offset: number, compression: string, words: string): SavedFileError {
  return new SavedFileError('unpack', { path, offset }, `${compression} cannot unpack it: ${words}`)
}
