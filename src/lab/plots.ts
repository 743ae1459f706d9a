/** What an experiment measured, in a form that can be drawn on a page and stored in a file. */

/** Samples of one quantity, in nanoseconds. */
export interface Distribution {
  name: string
  count: number
  p50: number
  p90: number
  p99: number
  p999: number
  max: number
  /** Quantiles 0, 0.005, … 1 of the samples. */
  curve: readonly number[]
}

/** A cost as a function of a parameter that was varied. */
export interface Curve {
  name: string
  x: readonly number[]
  y: readonly number[]
}

export type Plot =
  | { kind: 'distributions'; title: string; distributions: readonly Distribution[] }
  | {
      kind: 'curves'
      title: string
      xLabel: string
      yLabel: string
      /** Default false. */
      xLog?: boolean
      yLog?: boolean
      curves: readonly Curve[]
    }
  | {
      kind: 'bars'
      title: string
      yLabel: string
      yLog?: boolean
      bars: readonly { name: string; value: number }[]
    }

const curvePoints = 200

/** Summarizes samples. */
export function distributionOf(name: string, samplesNs: ArrayLike<number>): Distribution {
  const sorted = Float64Array.from(samplesNs).sort()
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0
  return {
    name,
    count: sorted.length,
    p50: at(0.5),
    p90: at(0.9),
    p99: at(0.99),
    p999: at(0.999),
    max: at(1),
    curve: Array.from({ length: curvePoints + 1 }, (_, index) => at(index / curvePoints)),
  }
}

/** The middle value; of an even number, the lower one. */
export function median(values: ArrayLike<number>): number {
  const sorted = Float64Array.from(values).sort()
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN
}
