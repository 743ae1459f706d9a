/** Deliberate mistakes that the two ends can make, to show that the search finds them. */
import { Draft, type State } from './state.js'

export const mutants = [
  'the source resumes the guest at any break after the package',
  'the source treats a break in postcopy-device as a failure and resumes',
  'the source switches before the guest has stopped',
  'the source accepts a cancel after the package',
  'the source completes before SHUT 0',
  'the source recovers without the received bitmaps',
  'a recovery is accepted from the source of another guest',
  'the destination runs the guest without claiming it',
  'the destination sends SHUT 1 although it runs the guest',
  'the destination rejects a guest that does not start',
  'the destination sends SHUT 0 before it has every page',
  'the destination fails if its worker dies after a precopy that runs',
  'the destination loads devices after it was closed',
  'a source whose worker dies after a refusal pauses',
  'the guest cannot be taken back from a paused source',
  'the source reports that the guest is here until the destination confirms it',
  'the source reports that the guest is elsewhere when it was sent',
] as const

export type Mutant = (typeof mutants)[number]

export interface Rules {
  /** Capability `postcopy-ram` on both ends, which includes the return path. */
  readonly postcopy: boolean
  readonly returnPath: boolean
  /** Which processes may be killed. */
  readonly kills: 'none' | 'source' | 'both'
  /** Workers may die. */
  readonly workersDie: boolean
  /** The state of the guest before the migration. */
  readonly guest: 'running' | 'stopped'
  /**
   * Main threads take notices that affect no decision at once. This gives fewer states, but the
   * same properties. Without it every pair of announced states occurs.
   */
  readonly hasty: boolean
  /** Capability `postcopy-preempt`: the page has its own connection, and may arrive late. */
  readonly preempt: boolean
  /**
   * The source saves unsent pages to disk (`--spill`), and another process can continue with them.
   */
  readonly spill: boolean
  /** Another source connects to a destination that recovers. */
  readonly stranger: boolean
  /** The machine may throw when it is started at the destination. */
  readonly startFails: boolean
  readonly mutant?: Mutant
}

/** Postcopy, with a connection that may be cut any number of times. */
export const postcopyRules: Rules = {
  postcopy: true,
  returnPath: true,
  kills: 'none',
  workersDie: false,
  guest: 'running',
  hasty: true,
  preempt: false,
  spill: false,
  stranger: false,
  startFails: false,
}

/**
 * The cause of a step: the program, a command, a command after checking the other
 * end, or a failure.
 */
export type StepKind = 'program' | 'command' | 'decision' | 'failure'

export interface Step {
  readonly kind: StepKind
  readonly label: string
  readonly next: Draft
}

/** Collects the possible next steps of a state. */
export class Steps {
  readonly all: Step[] = []
  readonly from: State
  readonly rules: Rules

  constructor(from: State, rules: Rules) {
    this.from = from
    this.rules = rules
  }

  add(kind: StepKind, label: string, change: (next: Draft) => void): void {
    const next = new Draft(this.from)
    change(next)
    this.all.push({ kind, label, next })
  }

  has(mutant: Mutant): boolean {
    return this.rules.mutant === mutant
  }
}
