/** Counters of running vCPUs, read without stopping them. */
import { StatsCall, addon, type MachineHandle } from './native.js'

/** In the order of `Activity` in native/vcpu/vcpu.h. */
export const ACTIVITIES = ['stopped', 'running', 'idle', 'finished', 'failed'] as const

/**
 * `idle`: the machine runs, but its workload has nothing to do; `finished`: all `touches=` are
 * done; `failed`: a check of a page failed, and the vCPU stopped there.
 */
export type Activity = (typeof ACTIVITIES)[number]

/** One vCPU. Touches, reads, writes and failed checks migrate; the rest belongs to this host. */
export interface VcpuStats {
  readonly threadId: number
  readonly activity: Activity
  readonly touches: number
  readonly reads: number
  readonly writes: number
  readonly failedChecks: number
  /** Microseconds in touches during which the thread slept, that is, in page faults. */
  readonly blocktimeUs: number
  /** The longest touch, in ns; touches below 2 us are not recorded. */
  readonly maxTouchNs: number
  /** The page of `ram` that is being touched now, and for how long. */
  readonly touching: { readonly page: number; readonly sinceUs: number } | undefined
  /** The vCPU's slice of `ram`, in pages. */
  readonly firstPage: number
  readonly pageCount: number
}

/** Each counter is consistent in itself; different counters may be a few touches apart. */
export function readVcpuStats(machine: MachineHandle, vcpu: number): VcpuStats {
  const stats = new StatsCall()
  addon().vcpuReadStats(machine, vcpu, stats.numbers)
  const { touches, reads, writes, failedChecks, blocktimeUs, maxTouchNs, firstPage, pageCount } =
    stats
  const { touchedPage: page, touchedForUs: sinceUs } = stats
  return {
    threadId: addon().vcpuThreadId(machine, vcpu),
    activity: ACTIVITIES[stats.activity] ?? 'stopped',
    touches,
    reads,
    writes,
    failedChecks,
    blocktimeUs,
    maxTouchNs,
    touching: page < 0 ? undefined : { page, sinceUs },
    firstPage,
    pageCount,
  }
}

const LINEAR_BUCKETS = 16
/** As many as the addon has. */
export const BUCKETS = 38 * LINEAR_BUCKETS

/** Durations of touches: 16 buckets per power of two nanoseconds, so each is 6 % wide. */
export class TouchHistogram {
  /** Number of touches per bucket. */
  readonly counts = new Float64Array(BUCKETS)

  static of(machine: MachineHandle, vcpu: number): TouchHistogram {
    const histogram = new TouchHistogram()
    addon().vcpuReadHistogram(machine, vcpu, histogram.counts)
    return histogram
  }

  /** The shortest duration in a bucket, in ns. */
  static bucketStartNs(bucket: number): number {
    if (bucket < 2 * LINEAR_BUCKETS) return bucket
    const exponent = Math.floor(bucket / LINEAR_BUCKETS) - 1
    return (LINEAR_BUCKETS + (bucket % LINEAR_BUCKETS)) * 2 ** exponent
  }

  get total(): number {
    return this.counts.reduce((sum, count) => sum + count, 0)
  }

  add(other: TouchHistogram): void {
    other.counts.forEach((count, bucket) => {
      this.counts[bucket] = (this.counts[bucket] ?? 0) + count
    })
  }

  /** The touches since `earlier`, taken from the same vCPU. */
  since(earlier: TouchHistogram): TouchHistogram {
    const difference = new TouchHistogram()
    this.counts.forEach((count, bucket) => {
      difference.counts[bucket] = count - (earlier.counts[bucket] ?? 0)
    })
    return difference
  }

  /**
   * The duration in ns that `percent` of touches did not exceed, at most one bucket too high; 0
   * without touches.
   */
  percentileNs(percent: number): number {
    const wanted = (this.total * percent) / 100
    let seen = 0
    for (let bucket = 0; bucket < BUCKETS; bucket += 1) {
      seen += this.counts[bucket] ?? 0
      if (seen >= wanted && seen > 0) return TouchHistogram.bucketStartNs(bucket + 1)
    }
    return 0
  }
}
