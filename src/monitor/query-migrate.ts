/** The result of `query-migrate`, by QEMU's field names; names of our own begin with `x-`. */
import type { Destination, FaultReport } from '../destination/index.js'
import { isAtRest, type MigratableMachine, type MigrationState, now } from '../migration/index.js'
import { parseUri } from '../net/index.js'
import type { Source } from '../source/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import { type ArrivalCounts, countArrivals, hasSwitched } from './page-arrivals.js'

/** Bytes unless the name says pages; `mbps` is megabits per second. */
export interface RamInfo {
  transferred: number
  remaining: number
  total: number
  /** Zero pages. */
  duplicate: number
  /** Pages sent with their content. */
  normal: number
  'normal-bytes': number
  'dirty-pages-rate': number
  mbps: number
  'dirty-sync-count': number
  'postcopy-requests': number
  'page-size': number
  'pages-per-second': number
  'precopy-bytes': number
  'downtime-bytes': number
  'postcopy-bytes': number
}

/** Target pages at a destination. */
export interface PagesInfo extends ArrivalCounts {
  /** Discarded pages: owed at the switch, because they were never sent or have changed since. */
  discarded: number
}

/** Microseconds from reading a fault's message to placing its page. */
export interface FaultLatencyInfo {
  count: number
  p50: number
  p90: number
  p99: number
  p999: number
  max: number
  /** Element i counts the faults of 2^(i/2) to 2^((i+1)/2) microseconds. */
  buckets: number[]
}

export type SocketAddress =
  { type: 'inet'; host: string; port: string } | { type: 'unix'; path: string }

/** Times are whole milliseconds. Empty while nothing has happened. */
export interface MigrationInfo {
  status?: MigrationState
  'total-time'?: number
  'setup-time'?: number
  'expected-downtime'?: number
  downtime?: number
  'error-desc'?: string
  ram?: RamInfo
  'socket-address'?: SocketAddress[]
  /** Time in which all vCPUs waited at once. This and the next: with `postcopy-blocktime` only. */
  'postcopy-blocktime'?: number
  'postcopy-vcpu-blocktime'?: number[]
  /** Mean, nanoseconds. */
  'postcopy-latency'?: number
  /** Faults by duration: element i counts those of 2^i to 2^(i+1) microseconds. */
  'postcopy-latency-dist'?: number[]
  'x-postcopy-latency-us'?: FaultLatencyInfo
  'x-user-mode-only'?: boolean
  'x-faults'?: number
  'x-pages'?: PagesInfo
}

const US_PER_MS = 1000
const NS_PER_US = 1000
const LATENCY_BUCKETS = 24

/**
 * An outgoing migration, as the source knows it. A failed one has only state and error, as in QEMU.
 */
export function sourceInfo(source: Source, blocks: MigratableMachine['blocks']): MigrationInfo {
  const { counters, state } = source
  const isHere = state === 'failed' || state === 'cancelled'
  // A new migration is in setup at once, as in QEMU, even before its worker has begun.
  const status = state === 'none' ? 'setup' : state
  if (counters.startedAt === 0 || isHere) return { status, ...errorOf(source) }
  const totalMs = (counters.endedAt || now()) - counters.startedAt
  const transferMs = totalMs - counters.setupMs
  const pages = counters.normalPages + counters.zeroPages
  const bytesPerSecond = isAtRest(state)
    ? (counters.transferredBytes * 1000) / Math.max(1, transferMs)
    : counters.bytesPerSecond
  const remaining = counters.remainingPages * TARGET_PAGE_SIZE
  return {
    status,
    ...errorOf(source),
    'total-time': Math.round(totalMs),
    'setup-time': Math.round(counters.setupMs),
    ...(counters.downtimeMs > 0
      ? { downtime: Math.round(counters.downtimeMs) }
      : { 'expected-downtime': Math.round((remaining * 1000) / Math.max(1, bytesPerSecond)) }),
    ram: {
      transferred: counters.transferredBytes,
      remaining,
      total: blocks.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
      duplicate: counters.zeroPages,
      normal: counters.normalPages,
      'normal-bytes': counters.normalPages * TARGET_PAGE_SIZE,
      'dirty-pages-rate': Math.round(counters.dirtyPagesRate),
      mbps: Number(((bytesPerSecond * 8) / 1e6).toFixed(2)),
      'dirty-sync-count': counters.dirtySyncCount,
      'postcopy-requests': counters.requestedPages,
      'page-size': TARGET_PAGE_SIZE,
      'pages-per-second': Math.round((pages * 1000) / Math.max(1, transferMs)),
      'precopy-bytes': counters.precopyBytes,
      'downtime-bytes': counters.downtimeBytes,
      'postcopy-bytes': counters.postcopyBytes,
    },
  }
}

/** An incoming migration, as the destination knows it. */
export function destinationInfo(destination: Destination): MigrationInfo {
  const { capabilities, counters, state, faults } = destination
  return {
    status: state,
    ...errorOf(destination),
    'socket-address': [socketAddress(destination.uri)],
    ...(counters.startedAt === 0
      ? {}
      : { 'total-time': Math.round((counters.endedAt || now()) - counters.startedAt) }),
    ...(hasSwitched(destination) ? { 'x-faults': counters.faults } : {}),
    'x-pages': { ...countArrivals(destination), discarded: counters.discardedPages },
    'x-user-mode-only': destination.userModeOnly,
    ...(faults === undefined ? {} : faultInfo(faults)),
    ...(faults === undefined || !capabilities['postcopy-blocktime'] ? {} : blocktimeInfo(faults)),
  }
}

function faultInfo(faults: FaultReport): MigrationInfo {
  const { count, p50Us, p90Us, p99Us, p999Us, maxUs, buckets, vcpuBlocktimeUs } = faults
  const totalUs = vcpuBlocktimeUs.reduce((sum, us) => sum + us, faults.otherBlocktimeUs)
  return {
    'postcopy-latency': count === 0 ? 0 : Math.round((totalUs * NS_PER_US) / count),
    'postcopy-latency-dist': latencyDistribution(buckets),
    'x-postcopy-latency-us': {
      count,
      p50: Math.round(p50Us),
      p90: Math.round(p90Us),
      p99: Math.round(p99Us),
      p999: Math.round(p999Us),
      max: Math.round(maxUs),
      buckets: [...buckets],
    },
  }
}

function blocktimeInfo({ allBlockedUs, vcpuBlocktimeUs }: FaultReport): MigrationInfo {
  return {
    'postcopy-blocktime': Math.round(allBlockedUs / US_PER_MS),
    'postcopy-vcpu-blocktime': vcpuBlocktimeUs.map((us) => Math.round(us / US_PER_MS)),
  }
}

/** Our buckets are half as wide as QEMU's. Longer faults count in the last bucket. */
function latencyDistribution(buckets: readonly number[]): number[] {
  const distribution = Array.from({ length: LATENCY_BUCKETS }, () => 0)
  buckets.forEach((count, index) => {
    const at = Math.min(LATENCY_BUCKETS - 1, Math.floor(index / 2))
    distribution[at] = (distribution[at] ?? 0) + count
  })
  return distribution
}

function errorOf({ error }: Source | Destination): MigrationInfo {
  return error === undefined ? {} : { 'error-desc': error.message }
}

function socketAddress(text: string): SocketAddress {
  const uri = parseUri(text)
  return uri.type === 'unix'
    ? { type: 'unix', path: uri.path }
    : { type: 'inet', host: uri.host, port: String(uri.port) }
}
