import { getHeapStatistics } from 'node:v8'
import { demand } from './target.js'

/** Buffers that any run may have, whatever comes. */
const BASE_BYTES = 2 * 2 ** 20
/** Objects, most of which are garbage at once: what is parsed anew with each piece, errors, stacks. */
const BASE_HEAP_BYTES = 32 * 2 ** 20
/** And of both, for each byte that has really come. */
const BYTES_PER_BYTE = 64

/**
 * Runs it and demands that memory follows the bytes that came, not what they announce. What is
 * collected meanwhile is not missed: only more can be a finding.
 */
export function bounded<T>(inputBytes: number, run: () => T): T {
  const before = getHeapStatistics()
  const result = run()
  const after = getHeapStatistics()
  const growing = BYTES_PER_BYTE * inputBytes
  const buffers = after.external_memory - before.external_memory
  const objects = after.used_heap_size - before.used_heap_size
  demand(
    buffers <= BASE_BYTES + growing && objects <= BASE_HEAP_BYTES + growing,
    `${inputBytes} bytes made it take ${buffers} in buffers and ${objects} in objects`,
  )
  return result
}
