/** The destination's main thread: src/destination/destination.ts, and its user. */
import { announce, isAtRest } from './enter.js'
import { close } from './link.js'
import type { Steps } from './rules.js'
import { type Draft, freshDestinationWorker } from './state.js'

export function destinationMainSteps(steps: Steps): void {
  const { destination } = steps.from
  if (!destination.alive) return
  if (destination.load !== 'idle') {
    load(steps)
    return // the main thread is busy
  }
  takeDestinationNotice(steps)
  if (destination.stopping) {
    steps.add('program', 'destination has stopped a guest that did not start', (next) => {
      next.destination.stopping = false
      next.destination.guest = 'stopped'
      tell(next, 'guest-running')
    })
  }
  if (
    destination.recovering === 'asked' &&
    destination.worker === 'gone' &&
    destination.notices.length === 0
  ) {
    steps.add('program', 'destination starts another worker', (next) => {
      Object.assign(next.destination, freshDestinationWorker(true))
      next.destination.recovering = 'begun'
    })
  }
  command(steps)
}

export function takeDestinationNotice(steps: Steps): void {
  const [notice] = steps.from.destination.notices
  if (notice === undefined) return
  steps.add('program', `destination main thread receives ${notice}`, (next) => {
    const { destination } = next
    destination.notices = destination.notices.slice(1)
    switch (notice) {
      case 'package':
      case 'devices':
        destination.hasPackage ||= notice === 'package'
        if (destination.refused || isClosed(steps, next)) break
        destination.loads = notice
        destination.load = 'loading'
        break
      case 'exit':
        if (!isAtRest(destination.main) || destination.recovering === 'begun') {
          workerLost(steps, next)
        }
        break
      default:
        announce(next, 'destination', notice)
        if (isAtRest(notice)) endDestinationWorker(next)
    }
  })
}

/** The pages that it needs would never be served. */
function isClosed(steps: Steps, { destination }: Draft): boolean {
  return destination.closed && !steps.has('the destination loads devices after it was closed')
}

function tell(next: Draft, what: 'pong' | 'guest-running' | 'load-failed' | 'pause'): void {
  const { destination } = next
  if (destination.worker === 'gone' || destination.worker === 'rest') return
  destination.requests = [...destination.requests, what]
}

/** Devices may touch a missing page: the main thread is then parked until the page is placed. */
function load(steps: Steps): void {
  const { destination } = steps.from
  if (destination.load === 'claimed') {
    steps.add('program', 'destination runs the guest', (next) => {
      next.destination.guest = next.source.ran ? 'running' : 'stopped'
      next.destination.load = 'idle'
      tell(next, 'guest-running')
    })
    if (!steps.rules.startFails) return
    // Some of its vCPUs may run already.
    steps.add('failure', 'the guest does not start at the destination', (next) => {
      next.destination.guest = 'running'
      if (steps.has('the destination rejects a guest that does not start')) {
        lose(next)
        return
      }
      next.destination.load = 'idle'
      next.destination.stopping = true
    })
    return
  }
  if (destination.load === 'loading' && destination.loads === 'package') {
    steps.add('failure', 'a device touches a missing page', (next) => {
      next.destination.load = 'needs page'
    })
  }
  const isServed = destination.received || destination.disarmed
  if (destination.load === 'needs page' && !isServed) return
  steps.add('failure', 'a device refuses its state', (next) => {
    lose(next)
  })
  steps.add('program', 'destination has loaded the devices', (next) => {
    claim(steps, next)
  })
}

function lose(next: Draft): void {
  const { destination } = next
  destination.claim = 'lost'
  destination.load = 'idle'
  destination.refused = true
  tell(next, 'load-failed')
}

function claim(steps: Steps, next: Draft): void {
  const { destination } = next
  const isOurs =
    destination.claim === 'loading' ||
    steps.has('the destination runs the guest without claiming it')
  if (!isOurs) {
    lose(next)
    return
  }
  destination.claim = 'running'
  destination.load = 'claimed'
  if (destination.loads === 'package') tell(next, 'pong')
}

export function endDestinationWorker(next: Draft): void {
  if (next.destination.worker === 'gone') return
  close(next, 'destination')
  Object.assign(next.destination, freshDestinationWorker(false), { worker: 'gone' })
  next.destination.notices = [...next.destination.notices, 'exit']
}

function workerLost(steps: Steps, next: Draft): void {
  const { destination } = next
  const { claim, hasPackage } = destination
  if (claim === 'loading') destination.claim = 'lost'
  const isWrong = steps.has('the destination fails if its worker dies after a precopy that runs')
  if (claim === 'whole' || (claim === 'running' && !hasPackage && !isWrong)) {
    announce(next, 'destination', 'completed')
  } else if (claim === 'running' && hasPackage) {
    announce(next, 'destination', 'postcopy-paused')
  } else announce(next, 'destination', 'failed')
}

const pausable = ['postcopy-active', 'postcopy-recover-setup', 'postcopy-recover']

function command(steps: Steps): void {
  const { destination } = steps.from
  const { main, worker, closed } = destination
  const isPausing = destination.requests.includes('pause')
  if (pausable.includes(main) && worker !== 'gone' && worker !== 'rest' && !isPausing) {
    steps.add('command', 'pause at the destination', (next) => {
      tell(next, 'pause')
    })
  }
  if (main === 'postcopy-paused' && destination.recovering === 'no' && !closed) {
    steps.add('command', 'recover at the destination', (next) => {
      next.destination.recovering = 'asked'
    })
  }
  if (!closed && worker !== 'gone' && worker !== 'rest') {
    steps.add('decision', 'close the destination', (next) => {
      next.destination.closed = true
      endDestinationWorker(next)
    })
  }
  const isFree = worker === 'listening' && destination.isRecovery && !destination.connected
  if (isFree && steps.rules.stranger) {
    steps.add('failure', 'the source of another guest connects', (next) => {
      const accepted = steps.has('a recovery is accepted from the source of another guest')
      next.destination.connected = true
      next.destination.inbox = accepted
        ? ['RECV_BITMAP', 'RESUME', 'FOREIGN', 'END']
        : ['RECV_BITMAP']
      // It reads the bitmaps, and closes the connection.
      next.destination.torn = true
    })
  }
}
