/** The destination's worker: src/destination/receiver.ts and src/destination/worker.ts. */
import type { IncomingEvent } from '../../src/destination/phases.js'
import { destinationAccepts, stateOfDestination, takeDestination } from './enter.js'
import { close, sendToSource } from './link.js'
import type { Steps } from './rules.js'
import { type Draft, type ToDestination } from './state.js'

export function destinationWorkerSteps(steps: Steps): void {
  const { destination } = steps.from
  if (!destination.alive) return
  switch (destination.worker) {
    case 'begin':
      begin(steps)
      break
    case 'listening':
      meet(steps)
      takeRequest(steps)
      break
    case 'works':
      receive(steps)
      takeRequest(steps)
      break
    case 'refuses':
      steps.add('program', 'destination sends SHUT 1', (next) => {
        if (steps.rules.returnPath) sendToSource(next, 'SHUT 1')
        close(next, 'destination')
        next.destination.worker = 'rest'
        if (steps.has('the destination sends SHUT 1 although it runs the guest'))
          next.destination.phase = 'loading'
        takeDestination(next, 'failed')
      })
      break
    case 'whole':
      steps.add('program', 'destination sends SHUT 0', (next) => {
        sendToSource(next, 'SHUT 0')
        close(next, 'destination')
        takeDestination(next, 'whole')
        next.destination.worker = 'rest'
      })
      break
    case 'rest':
    case 'gone':
  }
}

function begin(steps: Steps): void {
  const { isRecovery } = steps.from.destination
  steps.add('program', 'destination listens', (next) => {
    takeDestination(next, isRecovery ? 'recover' : 'listen')
    next.destination.worker = 'listening'
  })
  steps.add('failure', 'destination cannot listen', (next) => {
    if (isRecovery) takeDestination(next, 'recover')
    takeDestination(next, isRecovery ? 'lost' : 'failed')
    next.destination.worker = 'rest'
  })
}

/** A connection is accepted as the source by its first bytes (src/net/source-gate.ts). */
function meet(steps: Steps): void {
  const { inbox, torn } = steps.from.destination
  if (inbox.length > 0) {
    steps.add('program', 'destination accepts the source', (next) => {
      takeDestination(next, 'connect')
      next.destination.worker = 'works'
    })
  }
  if (torn) {
    steps.add('program', 'destination loses a connection before its first byte', (next) => {
      close(next, 'destination')
    })
  }
}

function receive(steps: Steps): void {
  const { destination } = steps.from
  const { inbox, torn, urgent } = destination
  const [message] = inbox
  if (message !== undefined) {
    steps.add('program', `destination takes ${message}`, (next) => {
      next.destination.inbox = inbox.slice(1)
      take(steps, next, message)
    })
    steps.add('failure', `destination cannot take ${message}`, (next) => {
      next.destination.inbox = inbox.slice(1)
      fail(steps, next)
    })
  }
  const state = stateOfDestination(destination)
  const isArmed = state === 'postcopy-device' || state === 'postcopy-active'
  if (urgent && isArmed) {
    steps.add('program', 'destination takes PAGE from the preempt channel', (next) => {
      next.destination.urgent = false
      next.destination.received = true
      finishIfDone(steps, next)
    })
  }
  if (torn) {
    steps.add('program', 'destination detects the broken connection', (next) => {
      Object.assign(next.destination, { inbox: [], torn: false, connected: false, urgent: false })
      const isExpected = destinationAccepts(next.destination, 'closed')
      if (!isExpected || !isComplete(steps, next)) fail(steps, next)
    })
  }
  if (isArmed) {
    steps.add('failure', 'the destination worker fails', (next) => {
      fail(steps, next)
    })
  }
}

function take(steps: Steps, next: Draft, message: ToDestination): void {
  for (const event of eventsOf(steps, message)) {
    const { destination } = next
    if (event === 'RAM' && (message === 'PAGE' || message === 'LAST')) destination.received = true
    // The page may still be in flight on the preempt channel.
    const isShort = event === 'EOF' && !isComplete(steps, next) && !steps.rules.preempt
    if (!destinationAccepts(destination, event) || isShort) {
      fail(steps, next)
      return
    }
    takeDestination(next, event, {
      loadPackage: () => load(next, 'package'),
      loadDevices: () => load(next, 'devices'),
      sendBitmap: () =>
        sendToSource(next, destination.received ? 'all received' : 'nothing received'),
      acknowledge: () => sendToSource(next, 'RESUME_ACK'),
    })
  }
  if (message === 'FOREIGN') next.destination.mixed = true
  finishIfDone(steps, next)
}

/** The elements of the stream that a message of the model represents. */
function eventsOf({ rules }: Steps, message: ToDestination): readonly IncomingEvent[] {
  switch (message) {
    case 'PROLOGUE':
      return rules.postcopy ? ['POSTCOPY_ADVISE', 'RAM'] : ['RAM']
    case 'LAST':
      return ['RAM', 'DEVICES', 'EOF']
    case 'RUN':
      return ['POSTCOPY_RAM_DISCARD', 'PACKAGED']
    case 'PAGE':
    case 'FOREIGN':
      return ['RAM']
    case 'END':
      return ['EOF']
    case 'RECV_BITMAP':
      return ['RECV_BITMAP']
    case 'RESUME':
      return ['POSTCOPY_RESUME']
  }
}

function isComplete(steps: Steps, { destination }: Draft): boolean {
  return destination.received || steps.has('the destination sends SHUT 0 before it has every page')
}

function load({ destination }: Draft, what: 'package' | 'devices'): void {
  destination.claim = 'loading'
  destination.notices = [...destination.notices, what]
}

function takeRequest(steps: Steps): void {
  const [request] = steps.from.destination.requests
  if (request === undefined) return
  steps.add('program', `destination worker receives ${request}`, (next) => {
    const { destination } = next
    destination.requests = destination.requests.slice(1)
    switch (request) {
      case 'pong':
        sendToSource(next, 'LOADED')
        break
      case 'guest-running':
        // A machine that failed to start may be stopped after another worker has begun to recover.
        if (destinationAccepts(destination, 'taken')) takeDestination(next, 'taken')
        finishIfDone(steps, next)
        break
      case 'load-failed':
        refuse(next)
        break
      case 'pause':
        if (destination.phase !== 'listening' && destination.phase !== 'listening-ended')
          fail(steps, next)
    }
  })
}

function finishIfDone(steps: Steps, next: Draft): void {
  const { destination } = next
  if (!destinationAccepts(destination, 'whole') || !isComplete(steps, next)) return
  destination.claim = 'whole'
  destination.worker = 'whole'
}

/** The claim decides in one exchange which end owns the guest. */
function fail(steps: Steps, next: Draft): void {
  const { destination } = next
  const owner = destination.claim
  if (owner === 'loading') destination.claim = 'lost'
  const regardless = steps.has('the destination sends SHUT 1 although it runs the guest')
  if ((owner !== 'running' && owner !== 'whole') || regardless) refuse(next)
  else {
    takeDestination(next, 'lost')
    if (destination.phase !== 'paused') return
    close(next, 'destination')
    destination.worker = 'rest'
  }
}

function refuse({ destination }: Draft): void {
  destination.disarmed = true
  destination.worker = 'refuses'
}
