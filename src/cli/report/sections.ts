/** What a report shows: each section with its charts, for the page and for the picture. */
import type { BlockArrivals } from '../../monitor/index.js'
import type { RunResult } from '../demo/run.js'
import { count } from '../demo/summary.js'
import {
  type PageKind,
  type Picture,
  latencyHistogram,
  pageMap,
  rateChart,
  workChart,
} from './charts.js'

export interface Section {
  readonly title: string
  readonly text: string
  /** What the colours of its charts mean. */
  readonly legend?: readonly PageKind[]
  readonly charts: readonly { readonly caption?: string; readonly picture: Picture }[]
}

/** The demo's settings, shown in the report. */
export interface ReportSettings {
  readonly ram: string
  readonly memory: string
  readonly vcpus: number
  readonly workload: string
  readonly postcopyAfter: number | 'now' | 'never'
}

export function sectionsOf({ samples, milestones, arrivals, info }: RunResult): Section[] {
  const sections: Section[] = [
    {
      title: 'How each page was received',
      text: 'Guest RAM in the order of addresses. A cell is red if at least one of its pages was requested.',
      legend: ['precopied', 'requested', 'pushed'],
      charts: arrivals.map((block) => ({ caption: describeBlock(block), picture: pageMap(block) })),
    },
  ]
  const buckets = info['x-postcopy-latency-us']?.buckets ?? []
  if (buckets.some((faults) => faults > 0)) {
    sections.push({
      title: 'How long the guest waited for a page',
      text: 'Page faults at the destination, from the fault until its page is placed. Each bar begins at 1.4 times the duration of the previous one.',
      charts: [{ picture: latencyHistogram(buckets) }],
    })
  }
  if (samples.length > 1) {
    sections.push(
      {
        title: 'What was sent',
        text: 'Bytes on the wire and page faults, sampled every 50 ms.',
        charts: [{ picture: rateChart(samples, milestones) }],
      },
      {
        title: 'What the guest did during the migration',
        text: 'Pages that the vCPUs touched and checked, first at the source, then at the destination.',
        charts: [{ picture: workChart(samples, milestones) }],
      },
    )
  }
  return sections
}

function describeBlock(arrivals: BlockArrivals): string {
  const { block, pages, pagesPerCell, precopied, requested, pushed } = arrivals
  return (
    `${block}: ${count(pages)} pages, ${count(pagesPerCell)} in a cell; ${count(precopied)} precopied, ` +
    `${count(requested)} requested, ${count(pushed)} pushed`
  )
}

export function describeSettings(settings: ReportSettings): string {
  const { ram, memory, vcpus, workload, postcopyAfter } = settings
  const switched = typeof postcopyAfter === 'number' ? `after ${postcopyAfter} ms` : postcopyAfter
  return `${ram} of ${memory} memory, ${vcpus} vCPUs, workload ${workload}, postcopy ${switched}`
}
