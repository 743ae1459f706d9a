/** The report's charts, each rendered to an SVG string without a browser. */
import { BarChart, LineChart } from 'echarts/charts'
import { GridComponent, LegendComponent, MarkLineComponent } from 'echarts/components'
import { type EChartsCoreOption, use } from 'echarts/core'
import type { ArrivalCounts, BlockArrivals } from '../../monitor/index.js'
import { drawSvg } from '../../view/index.js'
import type { Milestone, Sample } from '../demo/run.js'

use([BarChart, LineChart, GridComponent, LegendComponent, MarkLineComponent])

/** Distinguishable on white, on black, and by colour-blind people. */
export const colors = {
  precopied: '#4c86d9',
  requested: '#e0572b',
  pushed: '#2f9e77',
  missing: '#8888884d',
} as const

export type PageKind = Exclude<keyof typeof colors, 'missing'>

/** The page's own text colour: dark or light, as the reader prefers. */
const INK = 'currentColor'
export const CHART_WIDTH = 960
const MAP_COLUMNS = 128
const MAP_CELL = 7
const MIB = 1024 * 1024

const axisLabel = { color: INK }
const axisLine = { lineStyle: { color: INK, opacity: 0.5 } }
const splitLine = { lineStyle: { color: INK, opacity: 0.12 } }

/** A whole picture, {@link CHART_WIDTH} wide. */
export interface Picture {
  readonly heightPx: number
  readonly svg: string
}

/** One square per cell, row by row from the block's start; one path for all cells of a colour. */
export function pageMap({ cells }: BlockArrivals): Picture {
  const columns = Math.min(MAP_COLUMNS, cells.length)
  const paths = new Map<string, string>()
  cells.forEach((cell, index) => {
    const color = cellColor(cell)
    const x = (index % columns) * MAP_CELL
    const y = Math.floor(index / columns) * MAP_CELL
    const side = MAP_CELL - 1
    const square = `M${x} ${y}h${side}v${side}h-${side}z`
    paths.set(color, (paths.get(color) ?? '') + square)
  })
  const body = [...paths].map(([color, path]) => `<path fill="${color}" d="${path}"/>`).join('\n')
  const heightPx = Math.ceil(cells.length / columns) * MAP_CELL
  return {
    heightPx,
    svg:
      `<svg width="${CHART_WIDTH}" height="${heightPx}" xmlns="http://www.w3.org/2000/svg" ` +
      `viewBox="0 0 ${CHART_WIDTH} ${heightPx}">\n${body}\n</svg>`,
  }
}

/** The colour of most pages in the cell. Requested pages are rare, so a single one shows. */
function cellColor({ precopied, requested, pushed }: ArrivalCounts): string {
  const total = precopied + requested + pushed
  if (total === 0) return colors.missing
  const base = precopied >= pushed ? colors.precopied : colors.pushed
  return requested === 0 ? base : mix(base, colors.requested, 0.75 + (0.25 * requested) / total)
}

function mix(from: string, to: string, share: number): string {
  const channel = (color: string, at: number): number =>
    Number.parseInt(color.slice(at, at + 2), 16)
  const mixed = [1, 3, 5].map((at) =>
    Math.round(channel(from, at) * (1 - share) + channel(to, at) * share),
  )
  return `#${mixed.map((value) => value.toString(16).padStart(2, '0')).join('')}`
}

/** @param buckets - bucket i counts the faults of 2^(i/2) to 2^((i+1)/2) microseconds */
export function latencyHistogram(buckets: readonly number[]): Picture {
  const first = Math.max(0, buckets.findIndex((faults) => faults > 0) - 1)
  const last = buckets.findLastIndex((faults) => faults > 0) + 2
  return draw(260, {
    grid: { left: 60, right: 20, top: 30, bottom: 50 },
    xAxis: {
      type: 'category',
      name: 'at least',
      nameLocation: 'middle',
      nameGap: 30,
      nameTextStyle: axisLabel,
      data: buckets.slice(first, last).map((_, index) => duration(2 ** ((first + index) / 2))),
      axisLabel,
      axisLine,
      axisTick: { show: false },
    },
    yAxis: { type: 'value', name: 'faults', nameTextStyle: axisLabel, axisLabel, splitLine },
    series: [
      {
        type: 'bar',
        silent: true,
        barCategoryGap: '8%',
        itemStyle: { color: colors.requested },
        data: buckets.slice(first, last),
      },
    ],
  })
}

function duration(us: number): string {
  if (us < 1000) return `${Math.round(us)} us`
  return us < 1e6 ? `${(us / 1000).toFixed(us < 10_000 ? 1 : 0)} ms` : `${(us / 1e6).toFixed(1)} s`
}

/** Bytes on the wire, and faults, over time. */
export function rateChart(samples: readonly Sample[], milestones: readonly Milestone[]): Picture {
  const faults = samples.map((sample, index) => {
    const before = samples[index - 1]
    const elapsedMs = sample.atMs - (before?.atMs ?? 0)
    return [sample.atMs, ((sample.faults - (before?.faults ?? 0)) * 1000) / Math.max(1, elapsedMs)]
  })
  return draw(280, {
    ...timeline(),
    legend: { top: 0, icon: 'rect', textStyle: axisLabel, data: ['sent', 'page faults'] },
    yAxis: [
      { type: 'value', name: 'MiB/s', nameTextStyle: axisLabel, axisLabel, splitLine },
      {
        type: 'value',
        name: 'faults/s',
        nameTextStyle: axisLabel,
        axisLabel,
        splitLine: { show: false },
      },
    ],
    series: [
      {
        ...line('sent', colors.pushed),
        data: samples.map(({ atMs, bytesPerSecond }) => [atMs, bytesPerSecond / MIB]),
        markLine: marks(milestones),
      },
      { ...line('page faults', colors.requested), yAxisIndex: 1, data: faults },
    ],
  })
}

/** The guest's work over time, on either host. */
export function workChart(samples: readonly Sample[], milestones: readonly Milestone[]): Picture {
  return draw(260, {
    ...timeline(),
    yAxis: { type: 'value', name: 'touches/ms', nameTextStyle: axisLabel, axisLabel, splitLine },
    series: [
      {
        ...line('work', colors.precopied),
        areaStyle: { color: colors.precopied, opacity: 0.2 },
        data: samples.map(({ atMs, touchesPerSecond }) => [atMs, touchesPerSecond / 1000]),
        markLine: marks(milestones),
      },
    ],
  })
}

function timeline(): EChartsCoreOption {
  return {
    grid: { left: 60, right: 70, top: 40, bottom: 45 },
    xAxis: {
      type: 'value',
      name: 'ms since the migration began',
      nameLocation: 'middle',
      nameGap: 28,
      nameTextStyle: axisLabel,
      axisLabel,
      axisLine,
      splitLine: { show: false },
    },
  }
}

function line(name: string, color: string): Record<string, unknown> {
  return {
    type: 'line',
    name,
    silent: true,
    showSymbol: false,
    lineStyle: { color, width: 2 },
    itemStyle: { color },
  }
}

/** Marks where the guest stopped at one end and continued at the other. */
function marks(milestones: readonly Milestone[]): Record<string, unknown> {
  const at = (role: Milestone['role'], status: Milestone['status'], name: string) =>
    milestones
      .filter((milestone) => milestone.role === role && milestone.status === status)
      .map(({ atMs }) => ({ xAxis: atMs, label: { formatter: name } }))
  return {
    silent: true,
    symbol: 'none',
    lineStyle: { color: INK, opacity: 0.6, type: 'dashed' },
    label: { color: INK, position: 'end' },
    data: [
      ...at('source', 'device', 'switchover'),
      ...at('destination', 'completed', 'all pages received'),
    ],
  }
}

function draw(heightPx: number, option: EChartsCoreOption): Picture {
  return { heightPx, svg: drawSvg(CHART_WIDTH, heightPx, option) }
}
