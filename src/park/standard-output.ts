/** A stream on standard output. A reader that is slow, or reads nothing, never blocks this thread. */
import { constants, fstatSync, openSync, write } from 'node:fs'
import { Socket } from 'node:net'
import { isatty } from 'node:tty'
import { promisify } from 'node:util'
import { PostcopyError } from '../errors.js'
import { duplicateFd } from '../kernel/index.js'
import type { ByteSink } from './byte-sink.js'

const writeFile = promisify(write)
const STANDARD_OUTPUT = 1

export class StandardOutput implements ByteSink {
  lengthBytes = 0
  readonly #fd: number
  /** For a pipe or socket; a file is written by Node's thread pool. */
  readonly #socket: Socket | undefined

  /** @throws PostcopyError `ERR_USAGE` for a terminal; `EPIPE` for a pipe without a reader */
  static open(fd = STANDARD_OUTPUT): StandardOutput {
    if (isatty(fd)) {
      const advice = 'redirect it to a file or a pipe'
      throw new PostcopyError('ERR_USAGE', `standard output is a terminal: ${advice}`)
    }
    try {
      return new StandardOutput(fd, openSocket(fd))
    } catch (error) {
      throw explained(error)
    }
  }

  private constructor(fd: number, socket: Socket | undefined) {
    this.#fd = fd
    this.#socket = socket
    // The write that fails reports it.
    socket?.on('error', () => undefined)
  }

  async append(bytes: Uint8Array): Promise<void> {
    this.lengthBytes += bytes.length
    try {
      if (this.#socket !== undefined) await send(this.#socket, bytes)
      else await writeWhole(this.#fd, bytes)
    } catch (error) {
      throw explained(error)
    }
  }

  async finish(): Promise<void> {
    this.discard()
    await Promise.resolve()
  }

  /** Also ends a write that waits for the reader. */
  discard(): void {
    this.#socket?.destroy()
  }
}

/**
 * A pipe is opened a second time: other processes that have the first descriptor keep it as it is,
 * blocking or not. A socket can only be duplicated.
 */
function openSocket(from: number): Socket | undefined {
  const stat = fstatSync(from)
  const path = `/proc/self/fd/${from}`
  const options = { readable: false, writable: true }
  if (stat.isFIFO()) {
    return new Socket({ fd: openSync(path, constants.O_WRONLY | constants.O_NONBLOCK), ...options })
  }
  if (stat.isSocket()) return new Socket({ fd: duplicateFd(from), ...options })
  return undefined
}

/** Resolves when the kernel has all bytes. */
async function send(socket: Socket, bytes: Uint8Array): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    socket.write(bytes, (error) => (error ? reject(error) : resolve()))
  })
  // Node reports no error for a write that was ended by destroy().
  if (socket.destroyed) throw new PostcopyError('ERR_CLOSED', 'the export was ended')
}

async function writeWhole(fd: number, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    at += (await writeFile(fd, bytes, at, bytes.length - at, null)).bytesWritten
  }
}

function explained(cause: unknown): PostcopyError {
  if (cause instanceof PostcopyError) return cause
  const { code = 'ERR_UNKNOWN' } = cause as NodeJS.ErrnoException
  // ENXIO: the reader closed the pipe before it was opened again.
  const isClosed = ['EPIPE', 'ENXIO', 'ECONNRESET'].includes(code)
  const text = isClosed
    ? 'standard output was closed by its reader'
    : `standard output cannot be written (${code})`
  return new PostcopyError(isClosed ? 'EPIPE' : code, text, { cause })
}
