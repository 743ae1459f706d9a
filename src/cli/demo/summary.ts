/** The result of a demo: rows of a table, a verdict, and the same as one JSON object. */
import Table from 'cli-table3'
import type { MigrationInfo } from '../../monitor/index.js'
import { formatByteSize } from '../../units.js'
import type { RunResult } from './run.js'

export interface DemoVerdict {
  readonly verified: boolean
  readonly text: string
}

/** Verified if every page is right, and the guest continued to work at the destination. */
export function judge({ verify, workAfterSwitch, isIdle }: RunResult): DemoVerdict {
  const wrong = Object.entries(verify.counts).filter(([, count]) => count > 0)
  if (wrong.length > 0) {
    const what = wrong.map(([kind, count]) => `${count} ${kind}`).join(', ')
    return { verified: false, text: `NOT verified: of ${count(verify.pages)} pages ${what}` }
  }
  if (!verify.verified) {
    return {
      verified: false,
      text: `NOT verified: ${verify.failedChecks} checks failed while the guest ran`,
    }
  }
  if (workAfterSwitch === 0 && !isIdle) {
    return { verified: false, text: 'NOT verified: the guest did no work after the switch' }
  }
  return {
    verified: true,
    text: `verified: ${count(verify.pages)} pages are right, none lost, stale, torn or misplaced`,
  }
}

/** The rows of the table, also for the report. */
export function summaryRows(result: RunResult): [name: string, value: string, meaning: string][] {
  const { info, workAfterSwitch } = result
  const pages = info['x-pages']
  const latency = info['x-postcopy-latency-us']
  const blocktime = info['postcopy-vcpu-blocktime']
  const none = 'none'
  return [
    ['total time', `${info['total-time'] ?? 0} ms`, 'from the first byte to the last answer'],
    ['downtime', `${info.downtime ?? 0} ms`, 'the guest was stopped'],
    [
      'throughput',
      `${formatByteSize(bytesPerSecond(info))}/s`,
      `${formatByteSize(info.ram?.transferred ?? 0)} sent`,
    ],
    ['pages precopied', count(pages?.precopied ?? 0), 'sent before the switch, not changed since'],
    [
      'pages discarded',
      count(pages?.discarded ?? 0),
      'owed at the switch: not sent, or changed since',
    ],
    [
      'pages requested',
      count(pages?.requested ?? 0),
      'touched before they were received: page faults',
    ],
    ['pages pushed', count(pages?.pushed ?? 0), 'received before the guest touched them'],
    [
      'fault latency',
      latency === undefined || latency.count === 0
        ? none
        : `p50 ${time(latency.p50)}, p90 ${time(latency.p90)}, p99 ${time(latency.p99)}, max ${time(latency.max)}`,
      'from the fault until its page is placed',
    ],
    [
      'blocktime per vCPU',
      blocktime === undefined ? none : blocktime.map((ms) => `${ms} ms`).join(', '),
      'time spent waiting for pages',
    ],
    ['work after the switch', `${count(workAfterSwitch)} touches`, 'each touch checked its page'],
  ]
}

export function summaryTable(result: RunResult): string {
  const table = new Table({ style: { head: [], border: [], compact: true } })
  table.push(...summaryRows(result))
  return table.toString()
}

/**
 * `query-migrate` of both ends, with `verified`; fields that QEMU does not have begin with `x-`.
 */
export function summaryObject(result: RunResult): Record<string, unknown> {
  return {
    ...result.info,
    verified: judge(result).verified,
    'x-verify': result.verify,
    'x-work-after-switch': result.workAfterSwitch,
  }
}

export function count(value: number): string {
  return value.toLocaleString('en')
}

export function time(us: number): string {
  return us < 1000 ? `${us} us` : `${(us / 1000).toFixed(us < 10_000 ? 1 : 0)} ms`
}

function bytesPerSecond(info: MigrationInfo): number {
  const ms = (info['total-time'] ?? 0) - (info['setup-time'] ?? 0)
  return ((info.ram?.transferred ?? 0) * 1000) / Math.max(1, ms)
}
