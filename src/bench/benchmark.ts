/** What a benchmark is, and the results that it returns. */

export interface Target {
  /** The target is for the ratio to the rival, or for our own value if there is no rival. */
  readonly of: 'ratio' | 'value'
  readonly sense: 'at least' | 'at most'
  readonly limit: number
}

/** One figure of one case, ours and perhaps a rival's, with a value per round. */
export interface Comparison {
  /** The case: `2 GiB, no zero page`. */
  readonly what: string
  /** What was measured: `push`, `fault p50`. */
  readonly figure: string
  readonly unit: string
  readonly ours: readonly number[]
  /** Measured in turn with ours: round i of the rival ran next to our round i. */
  readonly rival?: { readonly name: string; readonly values: readonly number[] }
  readonly target?: Target
}

export interface Curve {
  readonly name: string
  readonly points: readonly (readonly [x: number, y: number])[]
}

export interface Picture {
  readonly title: string
  readonly xLabel: string
  readonly yLabel: string
  readonly yLog?: boolean
  readonly curves: readonly Curve[]
}

export interface Outcome {
  readonly comparisons: readonly Comparison[]
  readonly pictures?: readonly Picture[]
  /** What could not be run, and why. */
  readonly skipped?: readonly string[]
}

export interface RunOptions {
  /** How many rounds are measured; each benchmark adds its own warm-up. */
  readonly rounds: number
  /** Smaller guests and fewer cases. */
  readonly quick: boolean
  /** Called after each migration. */
  readonly progress: () => void
}

export interface Benchmark {
  readonly name: string
  readonly question: string
  run(options: RunOptions): Promise<Outcome>
}

/** For cases without a target, the median of fewer rounds suffices. */
export function fewer(rounds: number): number {
  return Math.min(rounds, 3)
}

export const MIB = 2 ** 20
export const GIB = 2 ** 30
