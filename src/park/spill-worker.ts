/**
 * Entry of the spill worker: it may block in disk writes, because no other work waits for this
 * thread.
 */
import { parentPort } from 'node:worker_threads'
import { PostcopyError, errorToRecord } from '../errors.js'
import { PackCall, packPages } from '../kernel/index.js'
import { createCounters, now, runWorker, workerInput } from '../migration/index.js'
import { PageBitmap, RamBlock } from '../ram/index.js'
import type { Owed } from '../source/index.js'
import { RAM_PAGE_RECORD_BYTES } from '../stream/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import { ParkDirectory } from './directory.js'
import type { SpillNotice, SpillWorkerData } from './spill.js'
import { VmStore } from './vm-store.js'

const BATCH_PAGES = 256

const port = parentPort
if (port === null)
  throw new PostcopyError('ERR_INTERNAL', 'the spill worker must run in a worker thread')

function notify(notice: SpillNotice): void {
  port?.postMessage(notice)
}

/** Writes the pages as records of a stream, as parking does. */
function spill(store: VmStore, { blocks: shared, ...identity }: Owed): void {
  const blocks = RamBlock.attachAll(shared)
  store.begin(
    identity,
    blocks.map(({ name, lengthBytes, hostPageSize }) => ({
      name,
      usedLengthBytes: lengthBytes,
      pageSizeBytes: hostPageSize,
    })),
    ({ pageSizeBytes = TARGET_PAGE_SIZE }) => pageSizeBytes,
  )
  store.takeDevices(identity.devices, 'postcopy')
  store.commitDevices()
  const batch = new Uint8Array(BATCH_PAGES * RAM_PAGE_RECORD_BYTES)
  const call = new PackCall()
  call.hostPages = 1
  call.maxPages = BATCH_PAGES
  call.outOffset = 0
  call.wait = 1
  for (const [index, { name, pages, pageCount }] of blocks.entries()) {
    // Packing clears bits. The shared bitmap belongs to the source, so this uses a copy.
    const left = new PageBitmap(pageCount, shared[index]?.owed).copy()
    call.to = pageCount
    for (call.from = 0; call.from < pageCount; call.from = call.nextPage) {
      const lengthBytes = packPages(pages, left.bytes, undefined, batch, call)
      if (lengthBytes === 0) break
      store.records(name, batch, 0, lengthBytes)
    }
    pages.close()
  }
  store.leaveIncomplete()
}

function write({ directory, owed }: SpillWorkerData): string {
  const counters = createCounters()
  counters.startedAt = now()
  const store = VmStore.fill(ParkDirectory.attach(directory), counters)
  try {
    spill(store, owed)
  } catch (error) {
    // A partial spill is useless, and may be what fills the disk.
    store.remove()
    throw error
  }
  return store.path
}

runWorker(() => {
  try {
    notify({ path: write(workerInput() as SpillWorkerData) })
  } catch (error) {
    notify({ error: errorToRecord(error) })
  }
  port.close()
})
