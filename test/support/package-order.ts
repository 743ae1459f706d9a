/**
 * Preloaded into a process (`--import FILE?source`, `?worker` or `?main`): fixes the order of threads at
 * the switch.
 *
 * - `?source`, at a source: `postcopy-device` is announced after the last bytes of the package are sent
 * - `?worker`, at a destination: the worker ends the migration before the main thread gets the package
 * - `?main`, at a destination: the main thread takes the guest before the worker reads on
 */
import { EventEmitter } from 'node:events'
import { Worker, isMainThread, parentPort } from 'node:worker_threads'
import { Claim } from '../../src/destination/claim.js'
import type { DestinationNotice, DestinationWorkerData } from '../../src/destination/protocol.js'
import { isAtRest } from '../../src/migration/states.js'
import { workerInput } from '../../src/migration/worker-input.js'
import type { SourceNotice } from '../../src/source/protocol.js'

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

/** The source announces the state first, and sends the last bytes in the same turn of its event loop. */
function announceLate(): void {
  if (parentPort === null) return
  const post = parentPort.postMessage.bind(parentPort)
  parentPort.postMessage = (notice: SourceNotice, transfer) => {
    if (notice.type !== 'state' || notice.state !== 'postcopy-device') post(notice, transfer)
    else setImmediate(() => post(notice, transfer))
  }
}

if (!isMainThread && first === '?source') announceLate()
if (isMainThread && first === '?worker') holdMain()
if (!isMainThread && first === '?main') holdWorker()
