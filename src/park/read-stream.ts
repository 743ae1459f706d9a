/** Passes a saved stream to a consumer in pieces, from a file, a FIFO or standard input. */
import { close, read } from 'node:fs'
import { promisify } from 'node:util'
import { MAX_LOOK_AHEAD_BYTES } from '../stream/index.js'
import { type InputFile, inputFile, openToRead, pipeChunks } from '../user-files.js'
import { readError } from '../kernel/internal.js'

const CHUNK_BYTES = 1024 * 1024
const STANDARD_INPUT = 0

const readFile = promisify(read)
const closeFile = promisify(close)

/** Takes bytes as a channel's consumer does; returns undefined if it wants no more. */
export type TakeBytes = (bytes: Uint8Array, start: number, end: number) => number | undefined

/**
 * Opens a saved stream. Never blocks, even if a FIFO has no writer yet. {@link readStream} closes
 * the descriptor.
 *
 * @param file - `-`: standard input
 * @throws PostcopyError with the errno name if the file does not exist, or cannot be read
 */
export function openStream(file: string): InputFile {
  return file === '-' ? inputFile(STANDARD_INPUT, 'standard input') : openToRead(file)
}

/**
 * Reads a stream through one buffer, to its end, or while `take` wants more.
 *
 * @param signal - abort ends the reading, even while no bytes arrive
 * @returns how many bytes at the end were not taken
 */
export async function readStream(
  input: InputFile,
  take: TakeBytes,
  signal?: AbortSignal,
): Promise<number> {
  const feed = new Feed(take)
  if (input.isPipe) await feedAll(pipeChunks(input.fd, signal), feed)
  else await readRegular(input.fd, feed)
  return feed.leftoverBytes
}

/** A buffer whose beginning holds the bytes that were read but not taken yet. */
class Feed {
  readonly #take: TakeBytes
  readonly #buffer = new Uint8Array(CHUNK_BYTES + MAX_LOOK_AHEAD_BYTES)
  #tail = 0

  constructor(take: TakeBytes) {
    this.#take = take
  }

  get leftoverBytes(): number {
    return this.#tail
  }

  /** Where to read the next bytes. */
  get room(): Uint8Array {
    return this.#buffer.subarray(this.#tail)
  }

  /** Call after reading `lengthBytes` into {@link room}. @returns whether more are wanted */
  added(lengthBytes: number): boolean {
    this.#tail += lengthBytes
    const taken = this.#take(this.#buffer, 0, this.#tail)
    if (taken === undefined) {
      this.#tail = 0
      return false
    }
    this.#buffer.copyWithin(0, taken, this.#tail)
    this.#tail -= taken
    return true
  }
}

async function readRegular(fd: number, feed: Feed): Promise<void> {
  try {
    for (let offset = 0; ;) {
      const { room } = feed
      const { bytesRead } = await readFile(fd, room, 0, room.length, null).catch(
        (error: unknown) => {
          throw readError(error, fd, offset, room.length)
        },
      )
      if (bytesRead === 0 || !feed.added(bytesRead)) return
      offset += bytesRead
    }
  } finally {
    if (fd !== STANDARD_INPUT) await closeFile(fd)
  }
}

/** As {@link readStream}, for pieces of any length that something else reads. */
export async function readPieces(
  pieces: AsyncIterable<Uint8Array>,
  take: TakeBytes,
): Promise<number> {
  const feed = new Feed(take)
  await feedAll(pieces, feed)
  return feed.leftoverBytes
}

async function feedAll(pieces: AsyncIterable<Uint8Array>, feed: Feed): Promise<void> {
  for await (const chunk of pieces) {
    for (let at = 0; at < chunk.length;) {
      const piece = chunk.subarray(at, at + feed.room.length)
      feed.room.set(piece)
      at += piece.length
      if (!feed.added(piece.length)) return
    }
  }
}
