/**
 * What an experiment is: a question to the kernel, its needs, the expected answer, and the method.
 */
import type { Needs } from '../host/index.js'
import type { Lab } from './lab.js'
import type { Match } from './match.js'
import type { Observation, Observations } from './observation.js'

/** What is expected on a range of kernels, and the source of that expectation. */
export interface Expectation {
  /** First kernel to which this applies, such as `6.8`. */
  since?: string
  /** First kernel to which this no longer applies. */
  before?: string
  values: Record<string, Observation | Match>
  /** Manual page, commit, document or measurement that states it. */
  source: string
}

export interface ExperimentDefinition {
  /** Kebab-case, unique. */
  id: string
  /** Areas, such as `opening`, `fill`, `events`, `latency`. */
  tags: readonly string[]
  /** The question to the kernel, in one sentence. */
  question: string
  /** What the experiment does. */
  method: string
  needs?: Needs
  /**
   * The first entry whose kernels include this one applies. If empty, results
   * are recorded, not judged.
   */
  expected: Expectation | readonly Expectation[]
  /**
   * Tests of the kernel's selftests that this one mirrors, such as `uffd-unit-tests: zeropage`.
   */
  mirrors?: readonly string[]
  /** Files in /proc and /sys that it changes; they are restored after it, even if it fails. */
  changes?: readonly string[]
  /** Default 10 s. */
  deadlineMs?: number
  run(lab: Lab): Observations | Promise<Observations>
}

const isExperiment = Symbol.for('postcopy.lab.experiment')

/** A checked {@link ExperimentDefinition}; a file for `lab run` exports these. */
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
 * Declares an experiment. Export the result: `postcopy lab run ./file.js` runs the exported ones.
 *
 * @throws TypeError for an unknown field or an id that is not kebab-case
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

/** Finds the experiments among the exports of a module, also those in arrays. */
export function experimentsIn(exports: Record<string, unknown>): Experiment[] {
  const found = Object.values(exports)
    .flat()
    .filter((value): value is Experiment => {
      return typeof value === 'object' && value !== null && isExperiment in value
    })
  return [...new Set(found)]
}
