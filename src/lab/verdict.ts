/** Compares what was seen with what was expected on this kernel. */
import { isOlder } from '../host/index.js'
import type { Expectation } from './experiment.js'
import { satisfies, showExpected, showObservation } from './match.js'
import type { Observation, Observations } from './observation.js'

/** A difference is a finding; only `broken` is a failure. */
export type Verdict = 'as expected' | 'differs' | 'not possible here' | 'broken'

export const verdicts: readonly Verdict[] = [
  'as expected',
  'differs',
  'not possible here',
  'broken',
]

/** One named fact beside its expectation. */
export interface Finding {
  name: string
  /** Absent if nothing was expected of it. */
  expected?: string
  /** Absent if it was not seen. */
  seen?: string
  agrees: boolean
  /** Why it could not be looked at; then it counts for nothing. */
  unavailable?: string
}

/** The expectation for a kernel, by its version; the first that fits. */
export function expectationFor(
  expected: Expectation | readonly Expectation[],
  kernelVersion: string,
): Expectation | undefined {
  const list: readonly Expectation[] = 'source' in expected ? [expected] : expected
  return list.find(
    ({ since, before }) =>
      (since === undefined || !isOlder(kernelVersion, since)) &&
      (before === undefined || isOlder(kernelVersion, before)),
  )
}

/** One finding for each fact that was expected or seen. */
export function compare(
  expected: Expectation | undefined,
  seen: Observations,
  unavailable: Readonly<Record<string, string>> = {},
): Finding[] {
  const values: Expectation['values'] = expected?.values ?? {}
  const names = new Set([...Object.keys(values), ...Object.keys(seen), ...Object.keys(unavailable)])
  return [...names].map((name) => {
    const wanted = values[name]
    const got: Observation | undefined = seen[name]
    const why = unavailable[name]
    const agrees =
      why !== undefined || wanted === undefined || (got !== undefined && satisfies(wanted, got))
    return {
      name,
      ...(wanted === undefined ? {} : { expected: showExpected(wanted) }),
      ...(got === undefined ? {} : { seen: showObservation(got) }),
      agrees,
      ...(why === undefined ? {} : { unavailable: why }),
    }
  })
}

/** The verdict over findings that were made to the end. */
export function judge(findings: readonly Finding[]): Verdict {
  const looked = findings.filter(({ unavailable }) => unavailable === undefined)
  if (looked.length === 0) return findings.length === 0 ? 'broken' : 'not possible here'
  return looked.every(({ agrees }) => agrees) ? 'as expected' : 'differs'
}
