/**
 * Entry of the source's worker: connects a migration, or its recovery, to the main thread's
 * messages.
 */
import { parentPort } from 'node:worker_threads'
import { PostcopyError, errorFromRecord, errorToRecord } from '../errors.js'
import { raiseThreadPriority } from '../kernel/internal.js'
import { createCounters, type MigrationState, runWorker, workerInput } from '../migration/index.js'
import { assertNever } from '../units.js'
import { attachBlocks } from './block.js'
import { Handover } from './handover.js'
import type { SavedDevices, SourceNotice, SourceRequest, SourceWorkerData } from './protocol.js'
import { Recovery } from './recovery.js'
import { Sender } from './sender.js'

const port = parentPort
if (port === null)
  throw new PostcopyError('ERR_INTERNAL', 'the source worker must run in a worker thread')

const data = workerInput() as SourceWorkerData
const handover = new Handover(data.handover)
const blocks = attachBlocks(data.blocks)
const counters = createCounters(data.counters)
let guestStopped: { resolve(devices: SavedDevices): void; reject(error: Error): void } | undefined

function notify(notice: SourceNotice): void {
  port?.postMessage(notice)
}

const host = {
  stateChanged: (state: MigrationState, error: unknown) => {
    notify({
      type: 'state',
      state,
      ...(error === undefined ? {} : { error: errorToRecord(error) }),
    })
  },
  claimed: () => handover.claim(),
  confirmed: () => handover.confirm(),
}

function makeSender(): Sender {
  return new Sender(
    {
      ...host,
      passBegins: (pass) => notify({ type: 'pass', pass }),
      stopGuest: () =>
        new Promise((resolve, reject) => {
          guestStopped = { resolve, reject }
          notify({ type: 'stop-guest' })
        }),
      resumeGuest: () => notify({ type: 'resume-guest' }),
      handingOver: (how) => handover.handOver(how),
      givenBack: () => handover.giveBack(),
    },
    blocks,
    data,
    counters,
  )
}

const role = data.isRecovery ? new Recovery(host, blocks, data, counters) : makeSender()

function obey(request: SourceRequest): void {
  switch (request.type) {
    case 'start-postcopy':
      if (role instanceof Sender) role.startPostcopy()
      break
    case 'cancel':
      if (role instanceof Sender) role.cancel()
      break
    case 'pause':
      role.pause()
      break
    case 'set-parameters':
      role.parameters = request.parameters
      break
    case 'guest-stopped':
      guestStopped?.resolve(request.devices)
      break
    case 'guest-not-stopped':
      guestStopped?.reject(errorFromRecord(request.error))
      break
    default:
      assertNever(request)
  }
}

runWorker(() => {
  port.on('message', obey)
  raiseThreadPriority()
  void role.run()
})
