/**
 * Entry of the destination's worker: connects a {@link Receiver} to a listener and the main thread.
 */
import { parentPort } from 'node:worker_threads'
import { PostcopyError, errorFromRecord, errorToRecord } from '../errors.js'
import type { Userfaultfd } from '../kernel/index.js'
import { SourceListener } from '../net/index.js'
import { raiseThreadPriority } from '../kernel/internal.js'
import { createCounters, isAtRest, runWorker, workerInput } from '../migration/index.js'
import { assertNever } from '../units.js'
import { attachBlocks } from './block.js'
import { Claim } from './claim.js'
import { FaultLog } from './fault-log.js'
import type { DestinationNotice, DestinationRequest, DestinationWorkerData } from './protocol.js'
import { Receiver } from './receiver.js'

const port = parentPort
if (port === null) {
  throw new PostcopyError('ERR_INTERNAL', 'the destination worker must run in a worker thread')
}

const data = workerInput() as DestinationWorkerData
const claim = new Claim(data.claim)
const blocks = attachBlocks(data.blocks)
let uffd: Userfaultfd | undefined

function notify(notice: DestinationNotice, transfer: ArrayBuffer[] = []): void {
  port?.postMessage(notice, transfer)
}

const receiver = new Receiver(
  {
    stateChanged: (state, error) => {
      notify({
        type: 'state',
        state,
        ...(error === undefined ? {} : { error: errorToRecord(error) }),
      })
      if (isAtRest(state)) release()
    },
    holdUserfaultfd: (opened) => {
      uffd = opened
      notify({ type: 'userfaultfd', id: opened.id, userModeOnly: opened.userModeOnly })
    },
    announced: (announced) => notify({ type: 'announced', announced }),
    checkConfiguration: (machineType, raw) => notify({ type: 'configuration', machineType, raw }),
    loadPackage: (blob, streamOffset) => {
      claim.beginLoading()
      notify({ type: 'package', blob, streamOffset }, [blob.buffer])
    },
    loadDevices: (sections, streamOffset) => {
      claim.beginLoading()
      notify({ type: 'devices', sections, streamOffset }, [sections.buffer])
    },
    giveBack: () => claim.giveBack(),
    whole: () => claim.becomeWhole(),
  },
  blocks,
  data,
  createCounters(data.counters),
  new FaultLog(data.faultLog),
)

const listener = new SourceListener(
  { tls: data.tls, parameters: data.parameters, resume: data.resumption?.announced },
  receiver,
  (error) => notify({ type: 'refused', error: errorToRecord(error) }),
)

/**
 * Closes what keeps this thread alive, except for a connection on which SHUT is still to be sent.
 */
function release(): void {
  listener.close()
  uffd?.close()
  for (const { block } of blocks) block.close()
  port?.close()
}

function obey(request: DestinationRequest): void {
  switch (request.type) {
    case 'pong':
      receiver.pong(request.value)
      break
    case 'guest-running':
      receiver.guestRunning()
      break
    case 'load-failed':
      receiver.loadFailed(errorFromRecord(request.error))
      break
    case 'pause':
      receiver.pause()
      break
    default:
      assertNever(request)
  }
}

// The main thread may be waiting for a page: any failure here must wake it or be reported to it.
process.on('uncaughtException', (error) => receiver.fail(error))

async function receive(): Promise<void> {
  try {
    await receiver.begin()
    const uri = await listener.listen(data.uri)
    // It was paused meanwhile, and this thread is to end.
    if (uri === undefined) return
    receiver.listening()
    notify({ type: 'listening', uri })
  } catch (error) {
    receiver.fail(error)
  }
}

runWorker(() => {
  port.on('message', obey)
  raiseThreadPriority()
  void receive()
})
