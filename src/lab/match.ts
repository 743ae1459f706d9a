/** Conditions on an observation for which more than one value is right. */
import { isDeepStrictEqual } from 'node:util'
import type { Observation } from './observation.js'

const isMatch = Symbol.for('postcopy.lab.match')

/** A condition on an observation. */
export interface Match {
  readonly [isMatch]: true
  /** The condition as the table shows it. */
  readonly text: string
  readonly holds: (seen: Observation) => boolean
}

function match(text: string, holds: (seen: Observation) => boolean): Match {
  return { [isMatch]: true, text, holds }
}

function numeric(text: string, holds: (seen: number) => boolean): Match {
  return match(text, (seen) => typeof seen === 'number' && holds(seen))
}

/** A number from `low` to `high`. */
export function between(low: number, high: number): Match {
  return numeric(`${low} to ${high}`, (seen) => seen >= low && seen <= high)
}

export function atLeast(low: number): Match {
  return numeric(`>= ${low}`, (seen) => seen >= low)
}

export function atMost(high: number): Match {
  return numeric(`<= ${high}`, (seen) => seen <= high)
}

/** One of several values. */
export function oneOf(...values: Observation[]): Match {
  return match(values.map(showObservation).join(' or '), (seen) =>
    values.some((value) => isDeepStrictEqual(value, seen)),
  )
}

/** Any value: it is recorded, not judged. */
export function anything(why = 'recorded'): Match {
  return match(why, () => true)
}

export function isExpectedMatch(value: Observation | Match): value is Match {
  return typeof value === 'object' && isMatch in value
}

/** Whether what was seen meets the expectation. */
export function satisfies(expected: Observation | Match, seen: Observation): boolean {
  return isExpectedMatch(expected) ? expected.holds(seen) : isDeepStrictEqual(expected, seen)
}

export function showExpected(expected: Observation | Match): string {
  return isExpectedMatch(expected) ? expected.text : showObservation(expected)
}

export function showObservation(seen: Observation): string {
  if (Array.isArray(seen)) return seen.map(String).join(', ')
  if (typeof seen === 'number' && !Number.isInteger(seen))
    return String(Number(seen.toPrecision(4)))
  return String(seen)
}
