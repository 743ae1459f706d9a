/** The source's main thread: src/source/source.ts, and the commands that a monitor accepts. */
import { announce, isAtRest } from './enter.js'
import { close } from './link.js'
import type { Steps } from './rules.js'
import { type SourceEnd, type Draft, freshSourceWorker } from './state.js'

export function sourceMainSteps(steps: Steps): void {
  const { source } = steps.from
  if (!source.alive) return
  takeSourceNotice(steps)
  if (source.guest === 'stopping') {
    steps.add('program', 'the guest has stopped at the source', (next) => {
      next.source.guest = 'stopped'
      request(next, 'guest-stopped')
      if (source.resumeWhenStopped) resumeGuest(next)
    })
    steps.add('failure', 'the guest does not stop at the source', (next) => {
      next.source.guest = 'running'
      request(next, 'guest-not-stopped')
      if (source.resumeWhenStopped) resumeGuest(next)
    })
  }
  if (source.recovering === 'asked' && source.step === 'gone' && source.notices.length === 0) {
    steps.add('program', 'source starts another worker', (next) => {
      Object.assign(next.source, freshSourceWorker(true))
      next.source.recovering = 'begun'
    })
  }
  command(steps)
}

function request(next: Draft, what: 'cancel' | 'pause' | 'guest-stopped' | 'guest-not-stopped') {
  const { source } = next
  if (isAtRest(source.main) || source.step === 'gone') return
  source.requests = [...source.requests, what]
}

export function takeSourceNotice(steps: Steps): void {
  const [notice] = steps.from.source.notices
  if (notice === undefined) return
  steps.add('program', `source main thread receives ${notice}`, (next) => {
    const { source } = next
    source.notices = source.notices.slice(1)
    switch (notice) {
      case 'stop-guest':
        source.stoppedRunning = source.guest === 'running'
        source.ran = source.stoppedRunning
        if (source.guest === 'running') source.guest = 'stopping'
        else request(next, 'guest-stopped')
        break
      case 'resume-guest':
        resumeGuest(next)
        break
      case 'exit':
        if (!isAtRest(source.main) || source.recovering === 'begun') workerLost(steps, next)
        break
      case 'unconfirmed':
        source.unconfirmed = true
        endSourceWorker(next)
        announce(next, 'source', 'failed')
        break
      default:
        if (isAtRest(notice)) endSourceWorker(next)
        announce(next, 'source', notice)
    }
  })
}

function resumeGuest({ source }: Draft): void {
  source.resumeWhenStopped = source.guest === 'stopping'
  if (source.guest === 'stopping') return
  if (source.stoppedRunning) source.guest = 'running'
  source.stoppedRunning = false
}

/** Ends the worker at any step. */
export function endSourceWorker(next: Draft): void {
  if (next.source.step === 'gone') return
  close(next, 'source')
  Object.assign(next.source, freshSourceWorker(false), { step: 'gone' })
  next.source.notices = [...next.source.notices, 'exit']
}

/** `handover` limits what the destination may have. */
function workerLost(steps: Steps, next: Draft): void {
  const { source } = next
  switch (source.handover) {
    case 'confirmed':
      if (source.main === 'postcopy-device') announce(next, 'source', 'postcopy-active')
      announce(next, 'source', 'completed')
      break
    case 'postcopy':
    case 'claimed':
      if (source.main === 'device') announce(next, 'source', 'postcopy-device')
      announce(next, 'source', 'postcopy-paused')
      break
    case 'precopy':
      source.unconfirmed = true
      announce(next, 'source', 'failed')
      break
    case 'none':
      resumeGuest(next)
      announce(next, 'source', 'failed')
  }
}

const pausable = ['postcopy-active', 'postcopy-recover-setup', 'postcopy-recover']

function command(steps: Steps): void {
  const { source } = steps.from
  const { main, closed } = source
  const isAsked = (what: string): boolean => source.requests.some((one) => one === what)
  const isCancelling = source.phase.startsWith('cancelling')
  const mayCancel =
    source.handover === 'none' || steps.has('the source accepts a cancel after the package')
  if (!isAtRest(main) && mayCancel && !isCancelling && !isAsked('cancel')) {
    if (source.step !== 'gone') {
      steps.add('command', 'cancel', (next) => {
        request(next, 'cancel')
      })
    }
  }
  if (pausable.includes(main) && source.step !== 'gone' && !isAsked('pause')) {
    steps.add('command', 'pause at the source', (next) => {
      request(next, 'pause')
    })
  }
  if (main === 'postcopy-paused' && source.recovering === 'no' && !closed && !source.taken) {
    steps.add('command', 'recover at the source', (next) => {
      next.source.recovering = 'asked'
    })
  }
  if (!closed && source.step !== 'gone') {
    steps.add('decision', 'close the source', (next) => {
      next.source.closed = true
      endSourceWorker(next)
    })
  }
  takeBack(steps, source)
}

/** `cont`, or `cont -f` by a user who has checked the destination. */
function takeBack(steps: Steps, source: SourceEnd): void {
  const { destination } = steps.from
  if (
    source.taken ||
    source.isTakenOver ||
    source.guest !== 'stopped' ||
    source.recovering !== 'no'
  )
    return
  const isKnown = !destination.alive || destination.main === 'failed'
  const mayBeAsked =
    (source.main === 'failed' && source.unconfirmed) ||
    source.main === 'completed' ||
    (source.main === 'postcopy-paused' &&
      !steps.has('the guest cannot be taken back from a paused source'))
  if (!isKnown || !mayBeAsked) return
  steps.add('decision', 'the guest is started at the source by hand', (next) => {
    next.source.taken = true
    if (source.main !== 'failed') next.source.handover = 'none'
    next.source.closed = true
    next.source.guest = 'running'
  })
}
