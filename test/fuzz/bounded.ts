import { type HeapInfo, getHeapStatistics } from 'node:v8'
import { demand } from './target.js'

/** Buffers that any run may use, whatever its input. */
const BASE_BYTES = 2 * 2 ** 20
/** Objects, mostly short-lived: what is parsed anew with each piece, errors, stacks. */
const BASE_HEAP_BYTES = 32 * 2 ** 20
/** Allowed in addition, of both, for each input byte. */
const BYTES_PER_BYTE = 64

/**
 * Runs it and demands that memory grows with the bytes that arrived, not with the lengths that
 * they announce. Garbage collection in between can only hide a finding, not cause one.
 */
export function bounded<T>(inputBytes: number, run: () => T): T {
  const before = getHeapStatistics()
  const result = run()
  demandBounds(inputBytes, before)
  return result
}

/** As {@link bounded}, for code that runs alone until its promise settles. */
export async function boundedAsync<T>(inputBytes: number, run: () => Promise<T>): Promise<T> {
  const before = getHeapStatistics()
  const result = await run()
  demandBounds(inputBytes, before)
  return result
}

function demandBounds(inputBytes: number, before: HeapInfo): void {
  const after = getHeapStatistics()
  const growing = BYTES_PER_BYTE * inputBytes
  const buffers = after.external_memory - before.external_memory
  const objects = after.used_heap_size - before.used_heap_size
  demand(
    buffers <= BASE_BYTES + growing && objects <= BASE_HEAP_BYTES + growing,
    `${inputBytes} bytes made it take ${buffers} in buffers and ${objects} in objects`,
  )
}
