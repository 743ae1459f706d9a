/** The destination's worker: src/destination/receiver.ts and src/destination/worker.ts. */
import { enterDestination } from './enter.js'
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
      steps.add('program', 'destination says SHUT 1', (next) => {
        hangUp(steps, next, 'SHUT 1')
        enterDestination(next, 'failed')
      })
      break
    case 'whole':
      steps.add('program', 'destination says SHUT 0', (next) => {
        sendToSource(next, 'SHUT 0')
        close(next, 'destination')
        enterDestination(next, 'completed')
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
    enterDestination(next, isRecovery ? 'postcopy-recover-setup' : 'setup')
    next.destination.worker = 'listening'
  })
  steps.add('failure', 'destination cannot listen', (next) => {
    if (isRecovery) enterDestination(next, 'postcopy-recover-setup')
    enterDestination(next, isRecovery ? 'postcopy-paused' : 'failed')
    next.destination.worker = 'rest'
  })
}

/** A connection is accepted as the source by its first bytes (src/net/source-gate.ts). */
function meet(steps: Steps): void {
  const { inbox, torn, isRecovery } = steps.from.destination
  if (inbox.length > 0) {
    steps.add('program', 'destination lets the source in', (next) => {
      enterDestination(next, isRecovery ? 'postcopy-recover' : 'active')
      next.destination.worker = 'works'
    })
  }
  if (torn) {
    steps.add('program', 'destination loses somebody that has said nothing', (next) => {
      close(next, 'destination')
    })
  }
}

function receive(steps: Steps): void {
  const { inbox, torn, state } = steps.from.destination
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
  const { urgent, phase } = steps.from.destination
  if (urgent && phase !== 'none' && state !== 'postcopy-recover') {
    steps.add('program', 'destination takes PAGE by the preempt channel', (next) => {
      next.destination.urgent = false
      next.destination.received = true
      finishIfDone(steps, next)
    })
  }
  if (torn) {
    steps.add('program', 'destination sees the connection break', (next) => {
      const { destination } = next
      destination.inbox = []
      destination.torn = false
      destination.connected = false
      destination.urgent = false
      if (!destination.streamEnded || !isComplete(steps, next)) fail(steps, next)
    })
  }
  if (state === 'postcopy-device' || state === 'postcopy-active') {
    steps.add('failure', 'something goes wrong in the destination worker', (next) => {
      fail(steps, next)
    })
  }
}

function take(steps: Steps, next: Draft, message: ToDestination): void {
  const { destination } = next
  const isRecovering = destination.state === 'postcopy-recover'
  switch (message) {
    case 'PROLOGUE':
      break
    case 'LAST':
      destination.received = true
      destination.streamEnded = true
      load(next, 'devices')
      break
    case 'RUN':
      destination.phase = 'listening'
      enterDestination(next, 'postcopy-device')
      load(next, 'package')
      break
    case 'PAGE':
    case 'FOREIGN':
      if (isRecovering) fail(steps, next)
      else if (message === 'FOREIGN') destination.mixed = true
      else destination.received = true
      break
    case 'END':
      // The page may still be on its way on the other channel.
      if (isRecovering || !(isComplete(steps, next) || steps.rules.preempt)) fail(steps, next)
      else {
        destination.streamEnded = true
        finishIfDone(steps, next)
      }
      break
    case 'RECV_BITMAP':
      sendToSource(next, destination.received ? 'all received' : 'nothing received')
      break
    case 'RESUME':
      sendToSource(next, 'RESUME_ACK')
      enterDestination(next, 'postcopy-active')
  }
}

function isComplete(steps: Steps, { destination }: Draft): boolean {
  return destination.received || steps.has('the destination says SHUT 0 before it has every page')
}

function load({ destination }: Draft, what: 'package' | 'devices'): void {
  destination.claim = 'loading'
  destination.notices = [...destination.notices, what]
}

function takeRequest(steps: Steps): void {
  const [request] = steps.from.destination.requests
  if (request === undefined) return
  steps.add('program', `destination worker is told: ${request}`, (next) => {
    const { destination } = next
    destination.requests = destination.requests.slice(1)
    switch (request) {
      case 'pong':
        sendToSource(next, 'LOADED')
        break
      case 'guest-running':
        destination.guestRuns = true
        if (destination.phase === 'listening') destination.phase = 'running'
        if (destination.state === 'postcopy-device') enterDestination(next, 'postcopy-active')
        finishIfDone(steps, next)
        break
      case 'load-failed':
        refuse(next)
        break
      case 'pause':
        if (destination.state !== 'postcopy-device') fail(steps, next)
    }
  })
}

function finishIfDone(steps: Steps, next: Draft): void {
  const { destination } = next
  if (!destination.streamEnded || !destination.guestRuns) return
  if (!isComplete(steps, next)) return
  destination.claim = 'whole'
  destination.worker = 'whole'
}

/** Whose guest is it? The claim decides, in one exchange. */
function fail(steps: Steps, next: Draft): void {
  const { destination } = next
  const owner = destination.claim
  if (owner === 'loading') destination.claim = 'lost'
  const regardless = steps.has('the destination says SHUT 1 when it runs the guest')
  if ((owner !== 'running' && owner !== 'whole') || regardless) refuse(next)
  else if (destination.phase !== 'none') {
    close(next, 'destination')
    enterDestination(next, 'postcopy-paused')
    destination.worker = 'rest'
  }
}

function refuse({ destination }: Draft): void {
  destination.disarmed = true
  destination.worker = 'refuses'
}

function hangUp(steps: Steps, next: Draft, word: 'SHUT 1'): void {
  if (steps.rules.returnPath) sendToSource(next, word)
  close(next, 'destination')
  next.destination.worker = 'rest'
}
