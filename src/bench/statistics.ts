/** The median of several rounds, and their spread. */
export interface Spread {
  readonly min: number
  readonly median: number
  readonly max: number
}

export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (index: number): number => sorted[index] ?? NaN
  const middle = (sorted.length - 1) / 2
  return {
    min: at(0),
    median: (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2,
    max: at(sorted.length - 1),
  }
}

export function median(values: readonly number[]): number {
  return spread(values).median
}

/** Ratios round by round: influences on both sides of a round, such as a busy host, cancel out. */
export function ratios(ours: readonly number[], theirs: readonly number[]): number[] {
  return ours.slice(0, theirs.length).map((value, round) => value / (theirs[round] ?? NaN))
}

/** @param quantiles - evenly spaced; the last one is the largest sample */
export function at(quantiles: readonly number[], quantile: number): number {
  return quantiles[Math.round(quantile * quantiles.length) - 1] ?? NaN
}

/** Each quantile's median over the rounds, without the largest sample. */
export function curve(rounds: readonly (readonly number[])[]): (readonly [number, number])[] {
  const count = rounds[0]?.length ?? 0
  return Array.from({ length: count - 1 }, (_, index) => [
    (100 * (index + 1)) / count,
    median(rounds.map((quantiles) => quantiles[index] ?? NaN)),
  ])
}
