import { getHeapStatistics } from 'node:v8'
import { demand } from './target.js'

/** What any run may take, whatever comes: errors with their stacks, first buffers, code. */
const BASE_BYTES = 2 * 2 ** 20
/** And for each byte that has really come: copies, a buffer that doubles, records of it. */
const BYTES_PER_BYTE = 64

function bytesInUse(): number {
  const { used_heap_size: heap, external_memory: external } = getHeapStatistics()
  return heap + external
}

/**
 * Runs it and demands that memory follows the bytes that came, not what they announce. What is
 * collected meanwhile is not missed: only more can be a finding.
 */
export function bounded<T>(inputBytes: number, run: () => T): T {
  const before = bytesInUse()
  const result = run()
  const taken = bytesInUse() - before
  const bound = BASE_BYTES + BYTES_PER_BYTE * inputBytes
  demand(taken <= bound, `${inputBytes} bytes made it take ${taken}, more than ${bound}`)
  return result
}
