/** The source's worker: src/source/sender.ts and src/source/recovery.ts. */
import { enterSource } from './enter.js'
import { close, sendToDestination } from './link.js'
import type { Steps } from './rules.js'
import { type SourceEnd, type Draft, type ToSource } from './state.js'

export function sourceWorkerSteps(steps: Steps): void {
  const { source } = steps.from
  if (!source.alive || source.step === 'gone' || source.step === 'rest') return
  if (source.step !== 'conclude') {
    hear(steps)
    takeRequest(steps)
  }
  goOn(steps)
}

/** The return path is read whatever the worker waits for. */
function hear(steps: Steps): void {
  const { connected, broken, inbox, torn } = steps.from.source
  if (!connected || broken) return
  const [message] = inbox
  if (message !== undefined) {
    steps.add('program', `source hears ${message}`, (next) => {
      next.source.inbox = inbox.slice(1)
      take(next, message)
    })
  }
  if (torn) {
    steps.add('program', 'source sees the connection break', (next) => {
      next.source.inbox = []
      next.source.torn = false
      next.source.broken = true
    })
  }
}

function take(next: Draft, message: ToSource): void {
  const { source } = next
  switch (message) {
    case 'SHUT 0':
    case 'SHUT 1':
      source.shut = message === 'SHUT 0' ? '0' : '1'
      break
    case 'LOADED':
      source.loaded = true
      if (source.state === 'postcopy-device') enterSource(next, 'postcopy-active')
      break
    case 'RESUME_ACK':
      source.acknowledged = true
      break
    default:
      source.dirty = message === 'nothing received'
      if (source.step === 'bitmap') source.step = 'resume'
  }
}

function takeRequest(steps: Steps): void {
  const [request] = steps.from.source.requests
  if (request === undefined) return
  steps.add('program', `source worker is told: ${request}`, (next) => {
    const { source } = next
    source.requests = source.requests.slice(1)
    switch (request) {
      case 'cancel':
        cancel(next, steps.has('the source lets a cancel through behind the package'))
        break
      case 'pause':
        if (source.isRecovery || source.state === 'postcopy-active') source.broken = true
        break
      case 'guest-stopped':
        if (source.step === 'stopping') source.step = 'hand over'
        break
      case 'guest-not-stopped':
        source.step = 'conclude'
    }
  })
}

function cancel(next: Draft, isLate: boolean): void {
  const { source } = next
  if (isLate && source.state === 'postcopy-device') {
    source.notices = [...source.notices, 'resume-guest']
    source.handover = 'none'
  } else if (source.handover === 'none' && ['setup', 'active', 'device'].includes(source.state)) {
    enterSource(next, 'cancelling')
    source.cancelled = true
    source.broken = true
  }
}

/** What makes it senseless to go on. */
function isSenseless({ broken, shut, everythingSent, step }: SourceEnd): boolean {
  if (step === 'confirm' && shut === '0') return false
  return broken || shut === '1' || (shut === '0' && !everythingSent)
}

function goOn(steps: Steps): void {
  const { source } = steps.from
  const waits = source.step === 'stopping' || source.step === 'last bytes'
  const hasBegun = source.step !== 'begin' && source.step !== 'conclude'
  const isWorking = hasBegun && source.step !== 'handed over' && source.step !== 'confirmed'
  if (isWorking && !waits && isSenseless(source)) {
    steps.add('program', 'source gives up', (next) => {
      next.source.step = 'conclude'
      close(next, 'source')
    })
    return
  }
  switch (source.step) {
    case 'begin':
      steps.add('program', 'source begins', (next) => {
        enterSource(next, source.isRecovery ? 'postcopy-recover-setup' : 'setup')
        next.source.step = 'connect'
      })
      break
    case 'connect':
      connect(steps)
      break
    case 'greet':
      steps.add('program', 'source sends the prologue', (next) => {
        sendToDestination(next, 'PROLOGUE')
        enterSource(next, 'active')
        next.source.step = 'precopy'
      })
      break
    case 'precopy':
      endPrecopy(steps)
      break
    case 'hand over':
    case 'last bytes':
    case 'handed over':
      handOver(steps)
      break
    case 'push':
    case 'confirm':
    case 'confirmed':
      finish(steps)
      break
    case 'ask':
    case 'bitmap':
    case 'resume':
    case 'resumed':
      recover(steps)
      break
    case 'conclude':
      steps.add('program', 'source sorts its failure', (next) => {
        conclude(steps, next)
      })
      break
    case 'stopping':
    case 'rest':
    case 'gone':
  }
}

function connect(steps: Steps): void {
  const { source, destination } = steps.from
  const isListened =
    destination.alive &&
    destination.worker === 'listening' &&
    !destination.connected &&
    destination.isRecovery === source.isRecovery
  if (!isListened) {
    steps.add('program', 'source finds nobody to connect to', (next) => {
      next.source.step = 'conclude'
    })
    return
  }
  steps.add('program', 'source connects', (next) => {
    next.joined = true
    next.source.connected = true
    next.source.step = source.isRecovery ? 'ask' : 'greet'
    next.destination.connected = true
  })
}

function endPrecopy(steps: Steps): void {
  const ways = steps.rules.postcopy ? (['precopy', 'postcopy'] as const) : (['precopy'] as const)
  for (const way of ways) {
    steps.add('program', `source stops the guest, for ${way}`, (next) => {
      enterSource(next, 'device')
      const { source } = next
      source.notices = [...source.notices, 'stop-guest']
      source.way = way
      source.guestStopped = true
      const hurries = steps.has('the source hands over before the guest has stopped')
      source.step = hurries ? 'hand over' : 'stopping'
    })
  }
}

/** In three steps, because a worker may die between any two of them. */
function handOver(steps: Steps): void {
  const { step, way } = steps.from.source
  if (step === 'hand over') {
    steps.add('program', `source notes that it hands over (${way})`, (next) => {
      next.source.handover = way
      next.source.step = 'last bytes'
    })
  } else if (step === 'last bytes') {
    const last = way === 'postcopy' ? 'RUN' : 'LAST'
    steps.add('program', `source sends ${last}`, (next) => {
      sendToDestination(next, last)
      next.source.step = 'handed over'
    })
  } else {
    steps.add('program', 'source has handed over', (next) => {
      const { source } = next
      if (way === 'precopy') {
        source.everythingSent = true
        source.step = 'confirm'
        return
      }
      source.step = 'push'
      enterSource(next, 'postcopy-device')
      if (source.loaded) enterSource(next, 'postcopy-active')
    })
  }
}

/** To the end of the stream, and to the destination's last word. */
function finish(steps: Steps): void {
  const { source } = steps.from
  const { step, dirty, way } = source
  if (step === 'push') {
    const message = dirty ? 'PAGE' : 'END'
    steps.add('program', `source sends ${message}`, (next) => {
      const isUrgent = message === 'PAGE' && steps.rules.preempt
      if (!isUrgent) sendToDestination(next, message)
      else if (next.joined) next.destination.urgent = true
      if (message === 'END') {
        next.source.everythingSent = true
        next.source.step = 'confirm'
      } else next.source.dirty = false
    })
  } else if (step === 'confirm') {
    const early = steps.has('the source lets go before SHUT 0')
    if (source.shut !== '0' && steps.rules.returnPath && !early) return
    steps.add('program', 'source takes it for confirmed', (next) => {
      next.source.handover = 'confirmed'
      next.source.step = 'confirmed'
    })
  } else {
    steps.add('program', 'source completes', (next) => {
      close(next, 'source')
      if (way === 'postcopy' && source.state === 'postcopy-device') {
        enterSource(next, 'postcopy-active')
      }
      enterSource(next, 'completed')
      next.source.step = 'rest'
    })
  }
}

function recover(steps: Steps): void {
  const { step, acknowledged } = steps.from.source
  const blindly = steps.has('the source recovers without the received bitmaps')
  if (step === 'ask') {
    steps.add('program', 'source asks for the received bitmaps', (next) => {
      enterSource(next, 'postcopy-recover')
      if (!blindly) sendToDestination(next, 'RECV_BITMAP')
      else next.source.dirty = false
      next.source.step = blindly ? 'resume' : 'bitmap'
    })
  } else if (step === 'resume') {
    steps.add('program', 'source sends RESUME', (next) => {
      sendToDestination(next, 'RESUME')
      next.source.step = 'resumed'
    })
  } else if (step === 'resumed' && acknowledged) {
    steps.add('program', 'source goes on', (next) => {
      enterSource(next, 'postcopy-active')
      next.source.step = 'push'
    })
  } else {
    steps.add('failure', 'the destination takes too long to answer', (next) => {
      next.source.broken = true
    })
  }
}

/** Whose guest is it now? */
function conclude(steps: Steps, next: Draft): void {
  const { source } = next
  source.step = 'rest'
  if (source.isRecovery) {
    enterSource(next, 'postcopy-paused')
    return
  }
  const isRefused =
    source.shut === '1' && (source.state === 'device' || source.state === 'postcopy-device')
  const isLost =
    steps.has('the source resumes the guest on any break behind the package') ||
    (steps.has('the source takes a break in postcopy-device for a failure and resumes') &&
      source.state === 'postcopy-device')
  const wasSwitched = source.handover === 'postcopy' || source.handover === 'claimed'
  if (wasSwitched && !isRefused && !isLost) {
    if (source.state === 'device') enterSource(next, 'postcopy-device')
    enterSource(next, 'postcopy-paused')
  } else if (source.handover === 'precopy' && !isRefused) {
    source.notices = [...source.notices, 'unconfirmed']
    source.state = 'failed'
  } else {
    if (isRefused && !steps.has('a source whose worker dies behind a refusal pauses')) {
      source.handover = 'none'
    }
    if (source.guestStopped) source.notices = [...source.notices, 'resume-guest']
    enterSource(next, source.cancelled ? 'cancelled' : 'failed')
  }
}
