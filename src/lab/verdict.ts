/** Compares what was seen with what is expected on this kernel. */
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

/** One named fact with its expectation. */
export interface Finding {
  name: string
  /** Absent if there is no expectation. */
  expected?: string
  /** Absent if the fact was not seen. */
  seen?: string
  agrees: boolean
  /** Why the fact could not be observed; it is then not judged. */
  unavailable?: string
}

/** The first expectation that applies to a kernel version. */
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

/** The verdict of an experiment that ran to its end. */
export function judge(findings: readonly Finding[]): Verdict {
  const looked = findings.filter(({ unavailable }) => unavailable === undefined)
  if (looked.length === 0) return findings.length === 0 ? 'broken' : 'not possible here'
  return looked.every(({ agrees }) => agrees) ? 'as expected' : 'differs'
}
