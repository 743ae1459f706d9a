/** Feeds a file to who takes a stream in pieces. */
import { open } from 'node:fs/promises'
import { MAX_LOOK_AHEAD_BYTES } from '../stream/index.js'

const CHUNK_BYTES = 1024 * 1024

/** Takes bytes as a channel's consumer does; undefined: wants no more. */
export type TakeBytes = (bytes: Uint8Array, start: number, end: number) => number | undefined

/**
 * Reads a file, or a pipe, in one buffer: to its end, or as long as `take` wants more.
 *
 * @returns how many bytes at the end were not taken
 */
export async function readStream(file: string, take: TakeBytes): Promise<number> {
  const input = await open(file)
  try {
    const buffer = new Uint8Array(CHUNK_BYTES + MAX_LOOK_AHEAD_BYTES)
    for (let tail = 0; ;) {
      const { bytesRead } = await input.read(buffer, tail, buffer.length - tail, null)
      if (bytesRead === 0) return tail
      tail += bytesRead
      const taken = take(buffer, 0, tail)
      if (taken === undefined) return 0
      buffer.copyWithin(0, taken, tail)
      tail -= taken
    }
  } finally {
    await input.close()
  }
}
