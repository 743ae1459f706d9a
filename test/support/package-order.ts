/**
 * Preloaded into the process of a destination (`--import FILE?worker` or `?main`): fixes which of its
 * threads is first after the package has arrived.
 *
 * - `?worker`: the worker ends the migration before the main thread gets the package
 * - `?main`: the main thread takes the guest before the worker reads on
 */
import { EventEmitter } from 'node:events'
import { Worker, isMainThread, parentPort } from 'node:worker_threads'
import { Claim } from '../../src/destination/claim.js'
import type { DestinationNotice, DestinationWorkerData } from '../../src/destination/protocol.js'
import { isAtRest } from '../../src/migration/states.js'
import { workerInput } from '../../src/migration/worker-input.js'

const first = new URL(import.meta.url).search

function holdMain(): void {
  const held: DestinationNotice[] = []
  const hold = (listener: (notice: DestinationNotice) => void) => (notice: DestinationNotice) => {
    if (notice.type !== 'package' && held.length === 0) {
      listener(notice)
      return
    }
    held.push(notice)
    if (notice.type !== 'state' || !isAtRest(notice.state)) return
    for (const one of held.splice(0)) listener(one)
  }
  Object.defineProperty(Worker.prototype, 'on', {
    value(this: Worker, event: string, listener: (notice: DestinationNotice) => void) {
      return EventEmitter.prototype.on.call(
        this,
        event,
        event === 'message' ? hold(listener) : listener,
      )
    },
  })
}

function holdWorker(): void {
  const data = workerInput() as Partial<DestinationWorkerData>
  if (parentPort === null || data.claim === undefined) return
  const claim = new Claim(data.claim)
  const post = parentPort.postMessage.bind(parentPort)
  parentPort.postMessage = (notice: DestinationNotice, transfer) => {
    post(notice, transfer)
    const pause = new Int32Array(new SharedArrayBuffer(4))
    while (notice.type === 'package' && !claim.isTaken) Atomics.wait(pause, 0, 0, 5)
  }
}

if (isMainThread && first === '?worker') holdMain()
if (!isMainThread && first === '?main') holdWorker()
