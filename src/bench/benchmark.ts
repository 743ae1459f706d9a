/** What a benchmark is, and what it hands to those who print it. */

export interface Target {
  /** Of the ratio to the rival, or of our own value where there is none to divide by. */
  readonly of: 'ratio' | 'value'
  readonly sense: 'at least' | 'at most'
  readonly limit: number
}

/** One figure of one case, ours and perhaps a rival's, with a value a round. */
export interface Comparison {
  /** The case: `2 GiB, no zero page`. */
  readonly what: string
  /** What was measured: `push`, `fault p50`. */
  readonly figure: string
  readonly unit: string
  readonly ours: readonly number[]
  /** Measured in turn with ours: round i of one is next to round i of the other. */
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
  /** That count; each benchmark knows what has to be warm before. */
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

/** Where nothing is claimed, the middle of fewer rounds says enough. */
export function fewer(rounds: number): number {
  return Math.min(rounds, 3)
}

export const MIB = 2 ** 20
export const GIB = 2 ** 30
