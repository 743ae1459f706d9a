/**
 * Access to files that a user names; no other module opens them. open(2) of a FIFO blocks until its
 * other end is open. On the main thread, the command could not handle a signal meanwhile; on
 * another thread, the process could not exit. Here only the event loop waits.
 */
import {
  type Stats,
  accessSync,
  close,
  closeSync,
  constants,
  fstatSync,
  openSync,
  read,
  readSync,
  statSync,
  writeFile,
} from 'node:fs'
import { Socket } from 'node:net'
import { dirname } from 'node:path'
import { isatty } from 'node:tty'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { PostcopyError } from './errors.js'
import { formatByteSize } from './units.js'

const NEW_FILE_MODE = 0o666
const CHUNK_BYTES = 1024 * 1024
/** Time between two attempts to open a FIFO without a reader. */
const READER_POLL_MS = 50

const readFile = promisify(read)
const writeWhole = promisify(writeFile)
const closeFile = promisify(close)

/** @returns undefined if `file` does not exist @throws PostcopyError with the errno name */
export function statUserFile(file: string): Stats | undefined {
  try {
    return statSync(file, { throwIfNoEntry: false })
  } catch (error) {
    throw explained(file, 'opened', error)
  }
}

/** A file that is open for reading. */
export interface InputFile {
  readonly fd: number
  /** A FIFO, pipe or socket: it may have no bytes for long, so a blocking read must not be used. */
  readonly isPipe: boolean
}

/**
 * Opens a file, a FIFO or `/dev/fd/N` for reading. Never waits for the writer of a FIFO.
 *
 * @returns its descriptor, which belongs to the caller
 * @throws PostcopyError with the errno name if it cannot be opened; `ERR_USAGE` for a terminal
 */
export function openToRead(file: string): InputFile {
  const fd = openExplained(file, constants.O_RDONLY)
  try {
    return inputFile(fd, file)
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/** As {@link openToRead}, for an open descriptor. @param name - for errors */
export function inputFile(fd: number, name: string): InputFile {
  const stat = fstatSync(fd)
  if (stat.isDirectory()) throw new PostcopyError('EISDIR', `${name} is a directory`)
  if (isatty(fd)) {
    throw new PostcopyError('ERR_USAGE', `${name} is a terminal: it cannot be read from there`)
  }
  return { fd, isPipe: stat.isFIFO() || stat.isSocket() }
}

/**
 * Reads a pipe by the event loop, until its end or an abort.
 *
 * @param fd - closed at the end
 */
export async function* pipeChunks(fd: number, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  const socket = new Socket({ fd, readable: true, writable: false })
  const stop = (): void => void socket.destroy()
  signal?.addEventListener('abort', stop, { once: true })
  try {
    if (signal?.aborted === true) return
    yield* socket as AsyncIterable<Uint8Array>
  } catch (error) {
    // `signal` destroyed the socket.
    if (signal?.aborted !== true) throw error
  } finally {
    signal?.removeEventListener('abort', stop)
    socket.destroy()
  }
}

/**
 * Reads a whole file or pipe.
 *
 * @param limitBytes - a longer file is rejected
 * @throws PostcopyError as {@link openToRead}, also if it cannot be read; `EFBIG` for more bytes
 *   than `limitBytes`
 */
export async function readUserFile(file: string, limitBytes: number): Promise<Buffer> {
  const { fd, isPipe } = openToRead(file)
  const chunks: Uint8Array[] = []
  let lengthBytes = 0
  try {
    for await (const chunk of isPipe ? pipeChunks(fd) : fileChunks(fd)) {
      chunks.push(chunk)
      lengthBytes += chunk.length
      if (lengthBytes > limitBytes) throw tooLong(file, limitBytes)
    }
  } catch (error) {
    throw explained(file, 'read', error)
  }
  return Buffer.concat(chunks)
}

/**
 * Reads a small regular file synchronously.
 *
 * @param limitBytes - a longer file is rejected
 * @throws PostcopyError with the errno name; `ERR_FILE_KIND` for any other kind of file
 */
export function readRegularFile(file: string, limitBytes: number): Buffer {
  return readRegular(file, (size) => {
    if (size > limitBytes) throw tooLong(file, limitBytes)
    return 0
  })
}

/**
 * Reads the bytes that were appended to a regular file, such as a log; at most the last
 * `limitBytes`.
 *
 * @param from - its earlier length; a file that is shorter now is new and read from its beginning
 * @throws PostcopyError as {@link readRegularFile}
 */
export function readAdded(file: string, from: number, limitBytes: number): Buffer {
  return readRegular(file, (size) => Math.max(size < from ? 0 : from, size - limitBytes))
}

/** @param begin - returns the offset to read from in a file of `size` bytes, or throws */
function readRegular(file: string, begin: (size: number) => number): Buffer {
  const fd = openExplained(file, constants.O_RDONLY)
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile()) throw new PostcopyError('ERR_FILE_KIND', `${file} is not a regular file`)
    const from = begin(stat.size)
    const bytes = Buffer.alloc(stat.size - from)
    return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, from))
  } catch (error) {
    throw explained(file, 'read', error)
  } finally {
    closeSync(fd)
  }
}

/**
 * Checks whether {@link writeUserFile} can write a file, as far as that is known before. Creates no
 * file.
 *
 * @throws PostcopyError with the errno name if it cannot
 */
export function checkWritable(file: string): void {
  try {
    const stat = statSync(file, { throwIfNoEntry: false })
    // A FIFO may get its reader later.
    if (stat?.isFIFO() === true) return
    if (stat === undefined) accessSync(dirname(file), constants.W_OK | constants.X_OK)
    else closeSync(openSync(file, constants.O_WRONLY | constants.O_NONBLOCK))
  } catch (error) {
    throw explained(file, 'written', error)
  }
}

/**
 * Writes a whole file, FIFO or `/dev/fd/N`; the content of an existing file is replaced.
 *
 * @param onWaiting - called once if a FIFO has no reader yet; the write waits for one
 * @throws PostcopyError with the errno name
 */
export async function writeUserFile(
  file: string,
  text: string,
  onWaiting: () => void = () => undefined,
): Promise<void> {
  const fd = await openToWrite(file, onWaiting)
  try {
    const stat = fstatSync(fd)
    if (stat.isFIFO()) await writeToPipe(fd, text)
    else if (stat.isCharacterDevice()) await writeToDevice(fd, text)
    else await writeWhole(fd, text).finally(() => closeFile(fd))
  } catch (error) {
    throw explained(file, 'written', error)
  }
}

async function openToWrite(file: string, onWaiting: () => void): Promise<number> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NONBLOCK
  for (let looks = 0; ; looks += 1) {
    try {
      return openSync(file, flags, NEW_FILE_MODE)
    } catch (error) {
      // A FIFO without a reader. A socket file gives the same error, but can never be opened.
      const isWaiting = codeOf(error) === 'ENXIO' && statUserFile(file)?.isFIFO() === true
      if (!isWaiting) throw explained(file, 'written', error)
    }
    if (looks === 0) onWaiting()
    await sleep(READER_POLL_MS)
  }
}

/** Writes to a pipe and closes it after the last byte. */
async function writeToPipe(fd: number, text: string): Promise<void> {
  const socket = new Socket({ fd, readable: false, writable: true })
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      socket.write(text, (error) => (error ? reject(error) : resolve()))
    })
  } finally {
    socket.destroy()
  }
}

/** Opens the device again in blocking mode: a terminal takes part of a non-blocking write only. */
async function writeToDevice(fd: number, text: string): Promise<void> {
  try {
    const waiting = openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY)
    await writeWhole(waiting, text).finally(() => closeFile(waiting))
  } finally {
    closeSync(fd)
  }
}

async function* fileChunks(fd: number): AsyncGenerator<Uint8Array> {
  try {
    for (;;) {
      const { bytesRead, buffer } = await readFile(
        fd,
        Buffer.alloc(CHUNK_BYTES),
        0,
        CHUNK_BYTES,
        null,
      )
      if (bytesRead === 0) return
      yield buffer.subarray(0, bytesRead)
    }
  } finally {
    closeSync(fd)
  }
}

function openExplained(file: string, flags: number): number {
  try {
    return openSync(file, flags | constants.O_NONBLOCK)
  } catch (error) {
    throw explained(file, 'opened', error)
  }
}

/** Adds the file name and a reason to an error; an error of this package has them already. */
function explained(file: string, how: string, cause: unknown): PostcopyError {
  if (cause instanceof PostcopyError) return cause
  const code = codeOf(cause)
  const why =
    code === 'ENOENT' && how === 'opened' ? 'no such file' : `it cannot be ${how} (${code})`
  return new PostcopyError(code, `${file}: ${why}`, { cause })
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'ERR_UNKNOWN'
}

function tooLong(file: string, limitBytes: number): PostcopyError {
  return new PostcopyError('EFBIG', `${file} has more than ${formatByteSize(limitBytes)}`)
}
