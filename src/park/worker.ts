/**
 * Entry of the park worker: it may block in disk writes, because no other work waits for this
 * thread.
 */
import { parentPort } from 'node:worker_threads'
import { PostcopyError, errorFromRecord, errorToRecord } from '../errors.js'
import { SourceListener } from '../net/index.js'
import {
  createCounters,
  isAtRest,
  type MigrationState,
  runWorker,
  workerInput,
} from '../migration/index.js'
import type { ParkNotice, ParkRequest, ParkWorkerData } from './protocol.js'
import { type ParkInput, openInput, readDomain, readInput } from './park-input.js'
import { ParkReceiver } from './receiver.js'
import { VmStore } from './vm-store.js'

const port = parentPort
if (port === null) {
  throw new PostcopyError('ERR_INTERNAL', 'the park worker must run in a worker thread')
}

const data = workerInput() as ParkWorkerData
const { origin, tls, directory, isRecovery, parameters } = data
let listener: SourceListener | undefined
let isOver = false
/** Aborts the reading of a file or pipe. */
const reading = new AbortController()

function notify(notice: ParkNotice): void {
  port?.postMessage(notice)
}

function stateChanged(state: MigrationState, error: unknown): void {
  notify({ type: 'state', state, ...(error === undefined ? {} : { error: errorToRecord(error) }) })
  if (!isAtRest(state)) return
  isOver = true
  reading.abort()
  listener?.close()
  port?.close()
}

async function park(): Promise<void> {
  // Opened before a directory is created.
  const input = 'file' in origin ? await openInput(origin, reading.signal) : undefined
  const domain = 'file' in origin ? await readDomain(origin) : undefined
  const counters = createCounters(data.counters)
  const store = isRecovery
    ? VmStore.reopen(directory, counters, data)
    : VmStore.create(directory, counters, data)
  if (domain !== undefined) store.takeDomain(domain)
  const receiver = new ParkReceiver(
    {
      stateChanged,
      parked: (manifest) => notify({ type: 'parked', manifest }),
      keptWhole: () => notify({ type: 'kept-whole' }),
    },
    store,
    parameters,
    counters,
  )
  port?.on('message', (request: ParkRequest) => {
    receiver.fail(errorFromRecord(request.error))
  })
  try {
    if (isRecovery && store.hasAllPages) {
      receiver.finish()
    } else if ('uri' in origin) {
      const resume = isRecovery ? store.resumed : undefined
      listener = new SourceListener({ tls, parameters, resume }, receiver, (error) =>
        notify({ type: 'refused', error: errorToRecord(error) }),
      )
      const uri = await listener.listen(origin.uri)
      // It was stopped meanwhile, and this thread is to end.
      if (uri === undefined) return
      receiver.ready()
      notify({ type: 'listening', uri })
    } else if (input !== undefined) {
      await readFrom(origin.file, input, receiver)
    }
  } catch (error) {
    receiver.fail(error)
  }
}

async function readFrom(file: string, input: ParkInput, receiver: ParkReceiver): Promise<void> {
  receiver.ready()
  let hasBegun = false
  const take = (bytes: Uint8Array, start: number, end: number): number | undefined => {
    if (!hasBegun) receiver.begin()
    hasBegun = true
    const taken = receiver.take(bytes, start, end)
    return isOver ? undefined : taken
  }
  const leftover = await readInput(input, take, reading.signal)
  receiver.end(file, leftover)
}

runWorker(() => {
  // The input or the directory could not be opened: nothing has begun.
  park().catch((error: unknown) => stateChanged('failed', error))
})
