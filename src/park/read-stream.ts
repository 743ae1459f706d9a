/** Feeds a file, or anything that can be read, to who takes a stream in pieces. */
import type { Readable } from 'node:stream'
import { MAX_LOOK_AHEAD_BYTES } from '../stream/index.js'

const CHUNK_BYTES = 1024 * 1024

/** Takes bytes as a channel's consumer does; see {@link Consumer}. */
export type TakeBytes = (bytes: Uint8Array, start: number, end: number) => number

/**
 * Reads to the end, in one buffer.
 *
 * @returns how many bytes at the end were not taken
 */
export async function readStream(input: Readable, take: TakeBytes): Promise<number> {
  const buffer = new Uint8Array(CHUNK_BYTES + MAX_LOOK_AHEAD_BYTES)
  let tail = 0
  for await (const piece of input) {
    const bytes = piece as Uint8Array
    for (let at = 0; at < bytes.length;) {
      const count = Math.min(bytes.length - at, buffer.length - tail)
      buffer.set(bytes.subarray(at, at + count), tail)
      at += count
      tail += count
      const taken = take(buffer, 0, tail)
      buffer.copyWithin(0, taken, tail)
      tail -= taken
    }
  }
  return tail
}
