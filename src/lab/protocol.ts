/**
 * What the runner sends to the process of an experiment, and its answers: JSON
 * lines on descriptor 3.
 */
import type { LabRecord, LabSetting } from './lab.js'
import type { Described } from './describe.js'
import type { Finding, Verdict } from './verdict.js'

/** The descriptor that the answers are written to. */
export const ANSWER_FD = 3

/** The line sent once the modules are loaded: the experiment's deadline counts from here. */
export const BEGUN = '{"type":"begun"}\n'

export type Order =
  | { type: 'describe'; module: string }
  | { type: 'run'; module: string; id: string; setting: LabSetting }

/** One line, which follows {@link BEGUN} if an experiment is run. */
export type Answer =
  | { type: 'described'; experiments: Described[] }
  | {
      type: 'result'
      verdict: Verdict
      findings: Finding[]
      source: string
      record: LabRecord
    }
  | { type: 'not possible'; reason: string; record: LabRecord }
  | { type: 'failed'; error: string }
