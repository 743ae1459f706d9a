/** Accesses a region once, in a thread of its own, which may park on it. */
import { closeSync, openSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { MemoryRegion, PostcopyError } from '../../src/kernel/index.js'
import type { ParkJob } from './park.js'

function run(job: ParkJob): void {
  const { offset, length, action } = job
  using region = MemoryRegion.attach(job.regionId)
  if (action === 'read' || action === 'write') {
    region.touch(offset, length, action)
  } else if (action === 'populate') {
    region.madvise('POPULATE_WRITE', offset, length)
  } else if (action === 'discard') {
    region.discard(offset, length)
  } else {
    // read(2) into the page: a fault in kernel mode
    const fd = openSync('/dev/zero', 'r')
    try {
      region.readFile(fd, 0, offset, length)
    } finally {
      closeSync(fd)
    }
  }
}

parentPort?.postMessage('begin')
try {
  run(workerData as ParkJob)
  parentPort?.postMessage('done')
} catch (error) {
  parentPort?.postMessage(error instanceof PostcopyError ? error.code : String(error))
}
