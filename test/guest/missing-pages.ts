/** Arms a guest's RAM with userfaultfd; all of it is missing. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { Userfaultfd, type UserfaultfdOptions } from '../../src/kernel/index.js'
import type { Guest } from '../../src/guest/index.js'
import { cleanups } from '../support/cleanup.js'
import type { FaultServerData } from './fault-server.js'
import { regionOf } from './support.js'

/** From now on a touch of a missing page parks its thread. */
export function armMissing(guest: Guest, options: UserfaultfdOptions = {}): Userfaultfd {
  const uffd = Userfaultfd.open({
    optional: ['MISSING_SHMEM', 'MISSING_HUGETLBFS', 'THREAD_ID'],
    ...options,
  })
  cleanups.add(() => {
    uffd.close()
  })
  for (const { region, lengthBytes } of guest.blocks) {
    region.discard(0, lengthBytes)
    uffd.register(region.address, lengthBytes, { missing: true })
  }
  return uffd
}

/**
 * Serves missing pages of `destination` from `source`, in a worker.
 *
 * @returns the number of pages served so far, per block
 */
export async function serveFrom(
  source: Guest,
  destination: Guest,
  uffd: Userfaultfd,
): Promise<Int32Array> {
  const served = new Int32Array(new SharedArrayBuffer(4 * destination.blocks.length))
  const blocks = (['ram', 'ledger'] as const).map((name) => {
    const { address, lengthBytes, pageSizeBytes } = regionOf(destination, name)
    return { source: regionOf(source, name).id, address, lengthBytes, pageSizeBytes }
  })
  const workerData: FaultServerData = { uffd: uffd.id, blocks, served }
  const worker = new Worker(new URL('./fault-server.js', import.meta.url), { workerData })
  await once(worker, 'message')
  cleanups.add(async () => {
    worker.postMessage('end')
    await once(worker, 'exit')
  })
  return served
}
