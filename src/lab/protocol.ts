/** What the process of one experiment is told, and what it tells: JSON lines on descriptor 3. */
import type { LabRecord, LabSetting } from './lab.js'
import type { Described } from './describe.js'
import type { Finding, Verdict } from './verdict.js'

/** The descriptor that answers go to. */
export const ANSWER_FD = 3

/** The line that is sent when the modules are loaded: an experiment's time counts from here. */
export const BEGUN = '{"type":"begun"}\n'

export type Order =
  | { type: 'describe'; module: string }
  | { type: 'run'; module: string; id: string; setting: LabSetting }

/** One line, after {@link BEGUN} where an experiment is run. */
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
