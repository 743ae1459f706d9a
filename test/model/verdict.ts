/** Properties of all states together, and the result of the search. */
import {
  brokenPromise,
  falselyTold,
  isAcceptedLoss,
  isParkedForGood,
  mayRunAtDestination,
  mayRunAtSource,
  mayStandStill,
  twoCopies,
} from './promises.js'
import type { Rules, StepKind } from './rules.js'
import { type Space, explore } from './search.js'
import type { State } from './state.js'

export interface Verdict {
  readonly space: Space
  /** The property that does not hold, and a shortest path to its violation. */
  readonly broken: { readonly why: string; readonly way: readonly string[] } | undefined
}

/** @param scope - of the search; default: every promise */
export function judge(rules: Rules, scope?: 'two copies only' | 'nothing told'): Verdict {
  const space = explore(rules, (state) => {
    if (scope === 'two copies only') return twoCopies(state)
    const broken = brokenPromise(state, rules)
    return broken !== '' || scope === 'nothing told' ? broken : falselyTold(state, rules)
  })
  const broken =
    space.wrong ?? firstStuck(space, rules) ?? firstLost(space) ?? firstUnfinished(space)
  if (broken === undefined) return { space, broken }
  return { space, broken: { why: broken.why, way: space.way(broken.state) } }
}

type Finding = Space['wrong']

function firstStuck(space: Space, rules: Rules): Finding {
  const state = space.states.findIndex((one, number) => {
    if (mayStandStill(one) || isParkedForGood(one, rules)) return false
    return !space.goesOn(number)
  })
  return state === -1
    ? undefined
    : { state, why: 'no step is possible, and the migration has not ended' }
}

/** The guest can run, now or later: by the program, by commands, or by a user's decision. */
function firstLost(space: Space): Finding {
  const isGood = (state: State): boolean =>
    mayRunAtSource(state) || mayRunAtDestination(state) || isAcceptedLoss(state)
  const state = firstWithoutWay(space, isGood, ['program', 'command', 'decision'])
  return state === undefined
    ? undefined
    : { state, why: 'no end runs the guest or can run it later' }
}

/**
 * After the switch the destination can get every page, unless a user has given the migration up.
 */
function firstUnfinished(space: Space): Finding {
  const isGood = (state: State): boolean => {
    const { source, destination } = state
    const isGivenUp = !source.alive || source.closed || destination.closed
    return destination.main === 'completed' || isGivenUp || !mayRunAtDestination(state)
  }
  const state = firstWithoutWay(space, isGood, ['program', 'command'])
  return state === undefined ? undefined : { state, why: 'no recovery completes the guest' }
}

/**
 * The first state without a path to a good one.
 *
 * @param kinds - the kinds of steps that such a path may have
 */
function firstWithoutWay(
  space: Space,
  isGood: (state: State) => boolean,
  kinds: readonly StepKind[],
): number | undefined {
  const isSaved = new Uint8Array(space.states.length)
  const queue: number[] = []
  const save = (state: number): void => {
    if (isSaved[state] === 1) return
    isSaved[state] = 1
    queue.push(state)
  }
  space.states.forEach((state, number) => {
    if (isGood(state)) save(number)
  })
  for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
    space.forEachStepTo(at, (kind, from) => {
      if (kinds.includes(kind)) save(from)
    })
  }
  const lost = isSaved.indexOf(0)
  return lost === -1 ? undefined : lost
}
