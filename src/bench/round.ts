/** The commands that the bench sends to the two processes of a round, and their answers. */
import type { Parameters } from '../migration/index.js'

export interface RoundOptions {
  readonly ramBytes: number
  readonly workload: string
  /** Default 1. */
  readonly vcpus?: number
  /** Switch to postcopy after this many milliseconds; undefined: never. */
  readonly postcopyAfterMs: number | undefined
  /** Parameters of the source. Bandwidth is not limited unless one of them limits it. */
  readonly parameters?: Partial<Parameters>
  /** Push nothing for this long, then everything. */
  readonly pushAfterMs?: number
  /**
   * When the destination reads its touch histogram, counted from the
   * guest's start; default: the end.
   */
  readonly observeMs?: number
  /** Touches before this time are reported apart; default 0. */
  readonly warmMs?: number
  /** Where the destination listens; default loopback. */
  readonly host?: string
  /** How long the source runs its workload before it migrates; default 0. */
  readonly warmUpMs?: number
  /** The destination times a sweep of this many touches, from the guest's start on. */
  readonly sweepTouches?: number
}

export type Command =
  | { readonly type: 'listen'; readonly options: RoundOptions }
  | { readonly type: 'migrate'; readonly options: RoundOptions; readonly uri: string }
  | { readonly type: 'exit' }

/** Results of either end. */
export interface EndResult {
  readonly totalMs: number
  readonly pages: number
  readonly requestedPages: number
  /** Peak resident memory, minus the guest's RAM. */
  readonly beyondRamBytes: number
  /** CPU time of all threads during the migration. */
  readonly cpuSeconds: number
  /** CPU time divided by wall time. */
  readonly processors: number
}

export interface SourceResult extends EndResult {
  readonly downtimeMs: number
  readonly precopyBytes: number
  readonly precopyMs: number
  readonly rounds: number
  /** Of the guest, before the migration and during precopy. */
  readonly touchesPerSecond: { readonly before: number; readonly precopy: number }
}

export interface DestinationResult extends EndResult {
  /**
   * 1000 quantiles of the touches that were faults, as the vCPUs measured them, in microseconds.
   */
  readonly faultQuantilesUs: readonly number[]
  /** The same for touches before `warmMs`. */
  readonly coldQuantilesUs: readonly number[]
  /** p99 of the destination's own figure: from reading a fault to placing its page. */
  readonly placedP99Us: number
  readonly blocktimeMs: number
  /** Touches of all vCPUs, by time in ms since the guest's start. */
  readonly touched: readonly (readonly [ms: number, touches: number])[]
  readonly sweepMs: number
}

export type Answer =
  | { readonly type: 'listening'; readonly uri: string }
  | { readonly type: 'migrated'; readonly result: SourceResult }
  | { readonly type: 'arrived'; readonly result: DestinationResult }
  | { readonly type: 'failed'; readonly reason: string }
