/** Observes the touches of a guest's vCPUs at the destination, from the guest's start on. */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Guest, TouchHistogram } from '../guest/index.js'
import type { DestinationResult, RoundOptions } from './round.js'

const SAMPLE_MS = 2
const QUANTILES = 1000
const US_PER_NS = 1e-3
/** A sweep that takes longer is not waited for. */
const LONGEST_SWEEP_MS = 60_000

export function touchesOf(guest: Guest): number {
  return guest.vcpuStats().reduce((sum, { touches }) => sum + touches, 0)
}

/**
 * A touch that took longer was a fault, however it was resolved; a touch of a
 * present page is faster.
 */
const FAULT_NS = 8_000

/** Quantiles of the touches that were faults. */
export function faultQuantilesUs(touches: TouchHistogram): number[] {
  const faults = new TouchHistogram()
  touches.counts.forEach((count, bucket) => {
    if (TouchHistogram.bucketStartNs(bucket) >= FAULT_NS) faults.counts[bucket] = count
  })
  return Array.from(
    { length: QUANTILES },
    (_, index) => faults.percentileNs((100 * (index + 1)) / QUANTILES) * US_PER_NS,
  )
}

type Seen = Pick<
  DestinationResult,
  'faultQuantilesUs' | 'coldQuantilesUs' | 'blocktimeMs' | 'touched' | 'sweepMs'
>

export class TouchWatch {
  readonly #guest: Guest
  readonly #options: RoundOptions
  readonly #touched: (readonly [ms: number, touches: number])[] = []
  #startedAt = 0
  #touchesBefore = 0
  #hasBegun = false
  #timer: NodeJS.Timeout | undefined
  readonly #looks: NodeJS.Timeout[] = []
  #cold: TouchHistogram | undefined
  #observed: TouchHistogram | undefined

  constructor(guest: Guest, options: RoundOptions) {
    this.#guest = guest
    this.#options = options
  }

  /** Call it when the guest starts to run. */
  begin(): void {
    if (this.#hasBegun) return
    this.#hasBegun = true
    this.#startedAt = performance.now()
    this.#touchesBefore = touchesOf(this.#guest)
    const { observeMs, warmMs, sweepTouches } = this.#options
    this.#lookAfter(warmMs, (seen) => (this.#cold = seen))
    this.#lookAfter(observeMs, (seen) => (this.#observed = seen))
    // Each sample takes a processor away from the threads that are measured.
    if (sweepTouches !== undefined) this.#timer = setInterval(() => this.#sample(), SAMPLE_MS)
  }

  #lookAfter(ms: number | undefined, look: (seen: TouchHistogram) => void): void {
    if (ms !== undefined) this.#looks.push(setTimeout(() => look(this.#histogram()), ms))
  }

  #sample(): void {
    const ms = performance.now() - this.#startedAt
    this.#touched.push([ms, touchesOf(this.#guest) - this.#touchesBefore])
  }

  #histogram(): TouchHistogram {
    const all = new TouchHistogram()
    for (const each of this.#guest.touchHistograms()) all.add(each)
    return all
  }

  /** Waits for the end of the sweep that is timed. */
  async end(): Promise<Seen> {
    for (const look of this.#looks) clearTimeout(look)
    const { sweepTouches = 0 } = this.#options
    const cold = this.#cold ?? new TouchHistogram()
    const warm = (this.#observed ?? this.#histogram()).since(cold)
    const blocktimeMs =
      this.#guest.vcpuStats().reduce((sum, { blocktimeUs }) => sum + blocktimeUs, 0) / 1000
    const deadline = this.#startedAt + LONGEST_SWEEP_MS
    const isOver = (): boolean =>
      this.#timer === undefined ||
      (this.#touched.at(-1)?.[1] ?? 0) >= sweepTouches ||
      performance.now() > deadline
    while (!isOver()) await sleep(SAMPLE_MS)
    clearInterval(this.#timer)
    const sweep = this.#touched.find(([, touches]) => touches >= sweepTouches)
    return {
      faultQuantilesUs: faultQuantilesUs(warm),
      coldQuantilesUs: faultQuantilesUs(cold),
      blocktimeMs,
      touched: this.#touched,
      sweepMs: sweep?.[0] ?? NaN,
    }
  }
}
