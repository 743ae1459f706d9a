/**
 * The explorations on which the safety tests rest; each runs once, at the first
 * test that needs it.
 */
import { type Rules, postcopyRules } from './rules.js'
import { type Verdict, judge } from './verdict.js'

export const explorations = {
  'postcopy and precopy, workers that die, processes that are killed': {
    ...postcopyRules,
    workersDie: true,
    kills: 'both',
    stranger: true,
    hasty: false,
  },
  'a source that is killed, and continued from its spill': {
    ...postcopyRules,
    kills: 'source',
    spill: true,
  },
  'postcopy-preempt, and a guest that its user has stopped': {
    ...postcopyRules,
    preempt: true,
    guest: 'stopped',
  },
  'a machine that does not start at the destination, and workers that die': {
    ...postcopyRules,
    workersDie: true,
    startFails: true,
    hasty: false,
  },
  'plain precopy without a return path': {
    ...postcopyRules,
    postcopy: false,
    returnPath: false,
    workersDie: true,
    kills: 'both',
    startFails: true,
    hasty: false,
  },
} as const satisfies Record<string, Rules>

export type Exploration = keyof typeof explorations

const verdicts = new Map<Exploration, Verdict>()

/** Frees them: they are large, and other tests measure the memory of this process. */
export function forgetSpaces(): void {
  verdicts.clear()
}

export function verdictOf(name: Exploration): Verdict {
  let verdict = verdicts.get(name)
  if (verdict === undefined) {
    verdict = judge(explorations[name])
    verdicts.set(name, verdict)
  }
  return verdict
}
