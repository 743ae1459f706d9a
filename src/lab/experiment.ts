/** What an experiment is: a question to the kernel, what it needs, what is expected, how to ask. */
import type { Needs } from '../host/index.js'
import type { Lab } from './lab.js'
import type { Match } from './match.js'
import type { Observation, Observations } from './observation.js'

/** What should be seen on a range of kernels, and where that is written. */
export interface Expectation {
  /** First kernel that this holds for, such as `6.8`. */
  since?: string
  /** First kernel that this does not hold for any more. */
  before?: string
  values: Record<string, Observation | Match>
  /** Manual page, commit, document or measurement that says so. */
  source: string
}

export interface ExperimentDefinition {
  /** Kebab-case, unique. */
  id: string
  /** Areas, such as `opening`, `fill`, `events`, `latency`. */
  tags: readonly string[]
  /** In one sentence. */
  question: string
  /** What it does. */
  method: string
  needs?: Needs
  /** The first one whose kernels include this one counts. Empty: what is seen is recorded, not judged. */
  expected: Expectation | readonly Expectation[]
  /** Tests of the kernel's own selftests that this one mirrors, such as `uffd-unit-tests: zeropage`. */
  mirrors?: readonly string[]
  /** Files below /proc and /sys that it changes: put back behind it, whatever became of it. */
  changes?: readonly string[]
  /** Default 10 s. */
  deadlineMs?: number
  run(lab: Lab): Observations | Promise<Observations>
}

const isExperiment = Symbol.for('postcopy.lab.experiment')

/** An {@link ExperimentDefinition} that was checked; what a file for `lab run` exports. */
export type Experiment = Readonly<ExperimentDefinition> & { readonly [isExperiment]: true }

const known: readonly string[] = [
  'id',
  'tags',
  'question',
  'method',
  'needs',
  'expected',
  'mirrors',
  'changes',
  'deadlineMs',
  'run',
]

/**
 * Declares an experiment. Export the result: `postcopy lab run ./file.js` runs what a file exports.
 *
 * @throws TypeError for a misspelt field or an id that cannot be typed
 */
export function experiment(definition: ExperimentDefinition): Experiment {
  for (const key of Object.keys(definition)) {
    if (!known.includes(key)) {
      throw new TypeError(`experiment: unknown field "${key}"; known: ${known.join(', ')}`)
    }
  }
  if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(definition.id)) {
    throw new TypeError(`experiment: the id "${definition.id}" must be like "copy-partial"`)
  }
  return Object.freeze({ ...definition, [isExperiment]: true as const })
}

/** The experiments among what a module exports, also those in lists. */
export function experimentsIn(exports: Record<string, unknown>): Experiment[] {
  const found = Object.values(exports)
    .flat()
    .filter((value): value is Experiment => {
      return typeof value === 'object' && value !== null && isExperiment in value
    })
  return [...new Set(found)]
}
