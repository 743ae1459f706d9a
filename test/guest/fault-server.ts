/** A worker that serves missing pages of guest RAM from other regions of this process. */
import { parentPort, workerData } from 'node:worker_threads'
import { EVENT_STRIDE, FaultEvent, MemoryRegion, Userfaultfd } from '../../src/kernel/index.js'

export interface ServedBlock {
  /** Region with the content. */
  readonly source: number
  /** Where the pages are missing. */
  readonly address: number
  readonly lengthBytes: number
  readonly pageSizeBytes: number
}

export interface FaultServerData {
  readonly uffd: number
  readonly blocks: readonly ServedBlock[]
  /** Number of served pages, one element per block. */
  readonly served: Int32Array
}

const { uffd: id, blocks, served } = workerData as FaultServerData
const uffd = Userfaultfd.attach(id)
const sources = blocks.map((block) => MemoryRegion.attach(block.source))

uffd.watch((count) => {
  for (let event = 0; event < count; event += 1)
    place(uffd.events[event * EVENT_STRIDE + FaultEvent.address] ?? 0)
})

function place(address: number): void {
  const index = blocks.findIndex((b) => address >= b.address && address < b.address + b.lengthBytes)
  const block = blocks[index]
  if (block === undefined) throw new Error(`fault at ${address}, outside of all blocks`)
  const offset = address - block.address
  const start = offset - (offset % block.pageSizeBytes)
  const page = new Uint8Array(block.pageSizeBytes)
  sources[index]?.read(start, page)
  Atomics.add(served, index, 1) // before the copy, because a woken thread may read the count
  try {
    uffd.copy(block.address + start, page)
  } catch (error) {
    Atomics.sub(served, index, 1)
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
    uffd.wake(block.address + start, block.pageSizeBytes)
  }
}

parentPort?.once('message', () => {
  uffd.close()
  for (const source of sources) source.close()
  parentPort?.close()
})
parentPort?.postMessage('ready')
