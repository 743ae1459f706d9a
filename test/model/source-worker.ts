/** The source's worker: src/source/sender.ts and src/source/recovery.ts. */
import { sourceAccepts, takeSource } from './enter.js'
import { close, sendToDestination } from './link.js'
import type { Steps } from './rules.js'
import { type SourceEnd, type Draft, type ToSource } from './state.js'

export function sourceWorkerSteps(steps: Steps): void {
  const { source } = steps.from
  if (!source.alive || source.step === 'gone' || source.step === 'rest') return
  // Between the exchange in shared memory and the announcement the worker takes no
  // message, but may die.
  if (source.step !== 'conclude' && source.step !== 'last bytes') {
    hear(steps)
    takeRequest(steps)
  }
  goOn(steps)
}

/** The return path is read at every step of the worker. */
function hear(steps: Steps): void {
  const { connected, broken, inbox, torn } = steps.from.source
  if (!connected || broken) return
  const [message] = inbox
  if (message !== undefined) {
    steps.add('program', `source receives ${message}`, (next) => {
      next.source.inbox = inbox.slice(1)
      take(next, message)
    })
  }
  if (torn) {
    steps.add('program', 'source detects the broken connection', (next) => {
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
      if (sourceAccepts(source, 'loaded')) takeSource(next, 'loaded')
      break
    case 'RESUME_ACK':
      takeSource(next, 'RESUME_ACK')
      break
    default:
      takeSource(next, 'RECV_BITMAP', {
        keepBitmap: () => {
          source.dirty = message === 'nothing received'
        },
      })
      if (source.step === 'bitmap') source.step = 'resume'
  }
}

function takeRequest(steps: Steps): void {
  const [request] = steps.from.source.requests
  if (request === undefined) return
  steps.add('program', `source worker receives ${request}`, (next) => {
    const { source } = next
    source.requests = source.requests.slice(1)
    switch (request) {
      case 'cancel':
        cancel(next, steps.has('the source accepts a cancel after the package'))
        break
      case 'pause':
        if (source.isRecovery || source.phase === 'pushing') source.broken = true
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
  if (isLate && source.phase === 'package-sent') {
    source.notices = [...source.notices, 'resume-guest']
    source.handover = 'none'
  } else if (sourceAccepts(source, 'cancel')) {
    takeSource(next, 'cancel')
    source.broken = true
  }
}

/** Whether sending more is useless. */
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
    steps.add('program', 'source fails', (next) => {
      next.source.step = 'conclude'
      close(next, 'source')
    })
    return
  }
  switch (source.step) {
    case 'begin':
      steps.add('program', 'source begins', (next) => {
        takeSource(next, 'connect')
        next.source.step = 'connect'
      })
      break
    case 'connect':
      connect(steps)
      break
    case 'greet':
      steps.add('program', 'source sends the prologue', (next) => {
        sendToDestination(next, 'PROLOGUE')
        takeSource(next, 'connected')
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
      steps.add('program', 'source decides whether it failed or paused', (next) => {
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
    steps.add('program', 'source cannot connect', (next) => {
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
      takeSource(next, 'stop')
      const { source } = next
      source.notices = [...source.notices, 'stop-guest']
      source.way = way
      const hurries = steps.has('the source switches before the guest has stopped')
      source.step = hurries ? 'hand over' : 'stopping'
    })
  }
}

/** In three steps, because a worker may die between any two of them. */
function handOver(steps: Steps): void {
  const { step, way } = steps.from.source
  if (step === 'hand over') {
    steps.add('program', `source exchanges Handover (${way})`, (next) => {
      next.source.handover = way
      next.source.step = 'last bytes'
    })
  } else if (step === 'last bytes') {
    steps.add('program', 'source announces the switch', (next) => {
      takeSource(next, way === 'postcopy' ? 'send-package' : 'send-precopy')
      next.source.step = 'handed over'
    })
  } else {
    const last = way === 'postcopy' ? 'RUN' : 'LAST'
    steps.add('program', `source sends ${last}`, (next) => {
      sendToDestination(next, last)
      next.source.everythingSent = way === 'precopy'
      next.source.step = way === 'precopy' ? 'confirm' : 'push'
    })
  }
}

/** Sends the end of the stream, and waits for the destination's SHUT. */
function finish(steps: Steps): void {
  const { source } = steps.from
  const { step, dirty } = source
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
    const early = steps.has('the source completes before SHUT 0')
    if (source.shut !== '0' && steps.rules.returnPath && !early) return
    steps.add('program', 'source records the confirmation', (next) => {
      if (next.source.phase === 'package-sent') takeSource(next, 'loaded')
      next.source.handover = 'confirmed'
      next.source.step = 'confirmed'
    })
  } else {
    steps.add('program', 'source completes', (next) => {
      close(next, 'source')
      takeSource(next, 'confirmed')
      next.source.step = 'rest'
    })
  }
}

function recover(steps: Steps): void {
  const { step, phase } = steps.from.source
  const blindly = steps.has('the source recovers without the received bitmaps')
  if (step === 'ask') {
    steps.add('program', 'source requests the received bitmaps', (next) => {
      takeSource(next, 'connected')
      if (!blindly) sendToDestination(next, 'RECV_BITMAP')
      else next.source.dirty = false
      next.source.step = blindly ? 'resume' : 'bitmap'
    })
  } else if (step === 'resume') {
    steps.add('program', 'source sends RESUME', (next) => {
      takeSource(next, 'POSTCOPY_RESUME')
      sendToDestination(next, 'RESUME')
      next.source.step = 'resumed'
    })
  } else if (step === 'resumed' && phase === 'pushing') {
    steps.add('program', 'source continues', (next) => {
      next.source.step = 'push'
    })
  } else {
    steps.add('failure', 'the destination takes too long to answer', (next) => {
      next.source.broken = true
    })
  }
}

/** Concludes according to what the destination may have. */
function conclude(steps: Steps, next: Draft): void {
  const { source } = next
  source.step = 'rest'
  const isSent = source.phase === 'package-sent' || source.phase === 'pushing'
  const takesItBack =
    steps.has('the source resumes the guest at any break after the package') ||
    (steps.has('the source treats a break in postcopy-device as a failure and resumes') &&
      source.phase === 'package-sent')
  if (isSent && takesItBack && !source.isRecovery) source.phase = 'stopping'
  const event = source.shut === '1' && !source.isRecovery ? 'refused' : 'broken'
  if (event === 'broken' && source.phase === 'precopy-sent') {
    source.notices = [...source.notices, 'unconfirmed']
    source.phase = 'failed'
    return
  }
  takeSource(next, event, {
    giveBack: () => {
      if (!steps.has('a source whose worker dies after a refusal pauses')) source.handover = 'none'
    },
    resumeGuest: () => {
      source.notices = [...source.notices, 'resume-guest']
    },
  })
}
