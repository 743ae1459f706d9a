/** All possible next steps of two ends, their workers, the connection, and their users. */
import { isAtRest } from '../../src/migration/states.js'
import {
  destinationMainSteps,
  endDestinationWorker,
  takeDestinationNotice,
} from './destination-main.js'
import { destinationWorkerSteps } from './destination-worker.js'
import { close, cut } from './link.js'
import { type Rules, type Step, Steps } from './rules.js'
import { endSourceWorker, sourceMainSteps, takeSourceNotice } from './source-main.js'
import { sourceWorkerSteps } from './source-worker.js'
import { isParkedForGood } from './promises.js'
import { type Draft, type State, freshSourceWorker, initialState } from './state.js'

export function stepsOf(state: State, rules: Rules): readonly Step[] {
  const steps = new Steps(state, rules)
  if (rules.hasty && (isIdle(state.source) || isIdle(state.destination))) {
    if (isIdle(state.source)) takeSourceNotice(steps)
    else takeDestinationNotice(steps)
    return steps.all
  }
  sourceMainSteps(steps)
  sourceWorkerSteps(steps)
  destinationMainSteps(steps)
  destinationWorkerSteps(steps)
  failures(steps)
  return steps.all
}

/** Whether the next notice affects no decision, whenever it is taken. */
function isIdle(end: State['source'] | State['destination']): boolean {
  if ('load' in end && end.load !== 'idle') return false
  const [notice] = end.notices
  if (notice === 'exit') return isAtRest(end.main) && end.recovering !== 'begun'
  return notice === 'setup' || notice === 'active'
}

function failures(steps: Steps): void {
  const { joined, source, destination } = steps.from
  const { workersDie, kills } = steps.rules
  if (joined) steps.add('failure', 'the connection is cut', cut)
  if (workersDie) {
    if (source.alive && source.step !== 'gone' && source.step !== 'rest') {
      steps.add('failure', "the source's worker dies", endSourceWorker)
    }
    if (destination.alive && !['gone', 'rest'].includes(destination.worker)) {
      steps.add('failure', "the destination's worker dies", endDestinationWorker)
    }
  }
  if (isParkedForGood(steps.from, steps.rules)) {
    steps.add('decision', 'the destination process is killed by hand', killDestination)
  }
  if (!source.alive && source.spilled) takeOver(steps)
  if (kills === 'none') return
  if (source.alive) {
    steps.add('failure', 'the source process is killed', (next) => {
      killSource(next, false)
    })
    if (steps.rules.spill && ['postcopy', 'claimed'].includes(source.handover)) {
      steps.add(
        'failure',
        'the source process is killed, and has spilled its owed pages',
        (next) => {
          killSource(next, true)
        },
      )
    }
  }
  if (destination.alive && kills === 'both') {
    steps.add('failure', 'the destination process is killed', killDestination)
  }
}

/** `resume --recover`: a process that has never had the guest replaces the source. */
function takeOver(steps: Steps): void {
  steps.add('decision', 'another source process continues from the spilled pages', (next) => {
    const { ran } = next.source
    Object.assign(next.source, initialState('stopped').source, {
      ...freshSourceWorker(true),
      handover: 'postcopy',
      isTakenOver: true,
      ran,
    })
  })
}

function killSource(next: Draft, spilled: boolean): void {
  close(next, 'source')
  const { ran } = next.source
  const dead = { alive: false, ran, spilled, step: 'gone' } as const
  Object.assign(next.source, initialState('stopped').source, dead)
}

function killDestination(next: Draft): void {
  close(next, 'destination')
  const claim = next.destination.claim === 'whole' ? 'whole' : 'none'
  const dead = { alive: false, claim, worker: 'gone' } as const
  Object.assign(next.destination, initialState('stopped').destination, dead)
}
