/** Experiments without their functions: data to print, to store and to send to another process. */
import { experimentsIn } from './experiment.js'
import type { Needs } from '../host/index.js'
import type { Experiment } from './experiment.js'
import { showExpected } from './match.js'

export interface DescribedExpectation {
  since?: string
  before?: string
  values: Record<string, string>
  source: string
}

/** An experiment without its function. */
export interface Described {
  id: string
  tags: readonly string[]
  question: string
  method: string
  needs: Needs
  expected: DescribedExpectation[]
  mirrors: readonly string[]
  changes: readonly string[]
  deadlineMs: number
  /** URL of the module that exports the experiment. */
  module: string
}

const defaultDeadlineMs = 10_000

export function describeExperiment(experiment: Experiment, module: string): Described {
  const { id, tags, question, method, needs = {}, mirrors = [], changes = [] } = experiment
  const { deadlineMs = defaultDeadlineMs } = experiment
  const list = 'source' in experiment.expected ? [experiment.expected] : experiment.expected
  const expected = list.map(({ values, ...rest }) => ({
    ...rest,
    values: Object.fromEntries(
      Object.entries(values).map(([name, value]) => [name, showExpected(value)]),
    ),
  }))
  return { id, tags, question, method, needs, expected, mirrors, changes, deadlineMs, module }
}

/** Imports a module into this process and describes what it exports. */
export async function describeModule(url: string): Promise<Described[]> {
  const exports = (await import(url)) as Record<string, unknown>
  return experimentsIn(exports).map((experiment) => describeExperiment(experiment, url))
}
