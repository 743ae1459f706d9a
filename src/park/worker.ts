/** Entry of the worker that parks: writing to disk may block here, and nobody waits for it. */
import { parentPort } from 'node:worker_threads'
import { PostcopyError, errorFromRecord, errorToRecord } from '../errors.js'
import { type Listener, listen } from '../migration/connection.js'
import { createCounters } from '../migration/counters.js'
import { Reception } from '../migration/reception.js'
import { type MigrationState, isAtRest } from '../migration/states.js'
import { runWorker, workerInput } from '../migration/worker-input.js'
import type { ParkNotice, ParkRequest, ParkWorkerData } from './protocol.js'
import { readStream } from './read-stream.js'
import { ParkReceiver } from './receiver.js'
import { VmStore } from './vm-store.js'

const port = parentPort
if (port === null) {
  throw new PostcopyError('ERR_INTERNAL', 'the worker that parks runs in a worker only')
}

const data = workerInput() as ParkWorkerData
const { origin, tls, directory, isRecovery, parameters } = data
let listener: Listener | undefined
let reception: Reception | undefined
let isOver = false

function notify(notice: ParkNotice): void {
  port?.postMessage(notice)
}

function stateChanged(state: MigrationState, error: unknown): void {
  notify({ type: 'state', state, ...(error === undefined ? {} : { error: errorToRecord(error) }) })
  if (!isAtRest(state)) return
  isOver = true
  listener?.close()
  reception?.close()
  port?.close()
}

async function park(): Promise<void> {
  const counters = createCounters(data.counters)
  const store = isRecovery
    ? VmStore.reopen(directory, counters, data)
    : VmStore.create(directory, counters, data)
  const receiver = new ParkReceiver(
    { stateChanged, parked: (manifest) => notify({ type: 'parked', manifest }) },
    store,
    parameters,
    counters,
  )
  port?.on('message', (request: ParkRequest) => {
    receiver.fail(errorFromRecord(request.error))
  })
  try {
    if ('uri' in origin) {
      const door = new Reception(isRecovery ? store.resumed : undefined, parameters, {
        accept: (channel) => receiver.accept(channel),
        acceptEarly: (channel) => receiver.accept(channel),
        refused: (error) => notify({ type: 'refused', error: errorToRecord(error) }),
      })
      reception = door
      listener = await listen(origin.uri, {
        tls,
        handshakes: parameters,
        accepted: (channel) => {
          if (receiver.isConnected) receiver.accept(channel)
          else door.take(channel)
        },
        refused: (error) => notify({ type: 'refused', error: errorToRecord(error) }),
      })
      receiver.ready()
      notify({ type: 'listening', uri: listener.uri })
    } else {
      await readFrom(origin.file, receiver)
    }
  } catch (error) {
    receiver.fail(error)
  }
}

async function readFrom(file: string, receiver: ParkReceiver): Promise<void> {
  receiver.ready()
  receiver.begin()
  const leftover = await readStream(file, (bytes, start, end) => {
    const taken = receiver.take(bytes, start, end)
    return isOver ? undefined : taken
  })
  receiver.end(file, leftover)
}

runWorker(() => {
  // The directory could not be made: nothing has begun.
  park().catch((error: unknown) => stateChanged('failed', error))
})
