/**
 * How long faults took, in total and by thread. It is in shared memory, so it outlives the worker
 * that writes it, and can be read at any time. Recording a fault allocates nothing.
 */
import { type RecordableHistogram, createHistogram } from 'node:perf_hooks'
import { AllBlocked } from './all-blocked.js'

/** Plain data. Times are microseconds from reading the fault message to placing the page. */
export interface FaultReport {
  readonly count: number
  readonly p50Us: number
  readonly p90Us: number
  readonly p99Us: number
  readonly p999Us: number
  readonly maxUs: number
  /** Faults by duration: bucket i counts those of 2^(i/2) to 2^((i+1)/2) microseconds. */
  readonly buckets: readonly number[]
  /** Per vCPU, in the machine's order: microseconds that it waited for pages. */
  readonly vcpuBlocktimeUs: readonly number[]
  /** Microseconds that all vCPUs waited at the same time. */
  readonly allBlockedUs: number
  /** Microseconds that other threads (device loading) waited. */
  readonly otherBlocktimeUs: number
}

const NS_PER_US = 1000
const US_PER_MS = 1000
const HIGHEST_NS = 3600e9
const BUCKETS = 64
/** More vCPUs than any guest has; the waits of further ones count as those of other threads. */
const MAX_VCPUS = 1024

/** Indexes in `blocktimeUs`; vCPU i is at `firstVcpu + i`. */
const Slot = { allBlocked: 0, others: 1, firstVcpu: 2 } as const

/** Can be posted to another thread. */
export interface SharedFaultLog {
  readonly histogram: RecordableHistogram
  readonly buckets: Uint32Array
  readonly blocktimeUs: Float64Array
  /** The number of vCPUs, then their kernel thread ids. */
  readonly vcpus: Int32Array
}

export function createFaultLog(): SharedFaultLog {
  const shared = (bytes: number): SharedArrayBuffer => new SharedArrayBuffer(bytes)
  return {
    histogram: createHistogram({ lowest: 1, highest: HIGHEST_NS, figures: 2 }),
    buckets: new Uint32Array(shared(BUCKETS * 4)),
    blocktimeUs: new Float64Array(shared((Slot.firstVcpu + MAX_VCPUS) * 8)),
    vcpus: new Int32Array(shared((1 + MAX_VCPUS) * 4)),
  }
}

/** Records which threads are vCPUs, before they run. */
export function setVcpus({ vcpus }: SharedFaultLog, threadIds: readonly number[]): void {
  const known = threadIds.slice(0, MAX_VCPUS)
  vcpus.set(known, 1)
  Atomics.store(vcpus, 0, known.length)
}

/** The writer of the log. */
export class FaultLog {
  readonly #shared: SharedFaultLog
  readonly #allBlocked = new AllBlocked()
  /** Total of earlier workers. */
  readonly #allBlockedBeforeUs: number
  #vcpuThreadIds: readonly number[] = []

  constructor(shared: SharedFaultLog) {
    this.#shared = shared
    this.#allBlockedBeforeUs = shared.blocktimeUs[Slot.allBlocked] ?? 0
  }

  /** A thread begins to wait. Times are milliseconds of `performance.now()`. */
  begin(threadId: number, atMs: number): void {
    this.#learnVcpus()
    this.#allBlocked.begin(threadId, atMs)
  }

  /** The thread's page was placed. */
  end(threadId: number, sinceMs: number, atMs: number): void {
    const { histogram, buckets, blocktimeUs } = this.#shared
    this.#allBlocked.end(threadId, atMs)
    blocktimeUs[Slot.allBlocked] = this.#allBlockedBeforeUs + this.#allBlocked.totalMs * US_PER_MS
    const durationUs = (atMs - sinceMs) * US_PER_MS
    histogram.record(Math.min(HIGHEST_NS, Math.max(1, Math.round(durationUs * NS_PER_US))))
    const bucket = Math.min(BUCKETS - 1, Math.max(0, Math.floor(2 * Math.log2(durationUs))))
    buckets[bucket] = (buckets[bucket] ?? 0) + 1
    const vcpu = this.#vcpuThreadIds.indexOf(threadId)
    const slot = vcpu === -1 ? Slot.others : Slot.firstVcpu + vcpu
    blocktimeUs[slot] = (blocktimeUs[slot] ?? 0) + durationUs
  }

  #learnVcpus(): void {
    const count = Atomics.load(this.#shared.vcpus, 0)
    if (count === this.#vcpuThreadIds.length) return
    this.#vcpuThreadIds = [...this.#shared.vcpus.subarray(1, 1 + count)]
    this.#allBlocked.vcpus = this.#vcpuThreadIds
  }
}

export function reportFaults(shared: SharedFaultLog): FaultReport {
  const { histogram, buckets, blocktimeUs, vcpus } = shared
  const { count } = histogram
  const at = (percentile: number): number =>
    count === 0 ? 0 : histogram.percentile(percentile) / NS_PER_US
  const ofVcpus = blocktimeUs.subarray(Slot.firstVcpu, Slot.firstVcpu + (vcpus[0] ?? 0))
  return {
    count,
    p50Us: at(50),
    p90Us: at(90),
    p99Us: at(99),
    p999Us: at(99.9),
    maxUs: at(100),
    buckets: [...buckets],
    vcpuBlocktimeUs: [...ofVcpus],
    allBlockedUs: blocktimeUs[Slot.allBlocked] ?? 0,
    otherBlocktimeUs: blocktimeUs[Slot.others] ?? 0,
  }
}
