/** Draws each picture as an SVG string, without a browser. */
import { BarChart, LineChart } from 'echarts/charts'
import {
  GridComponent,
  LegendComponent,
  MarkLineComponent,
  TitleComponent,
} from 'echarts/components'
import { type EChartsCoreOption, use } from 'echarts/core'
import { drawSvg } from '../view/index.js'
import type { Comparison, Outcome, Picture } from './benchmark.js'
import { number, summarize } from './table.js'

use([BarChart, LineChart, GridComponent, LegendComponent, MarkLineComponent, TitleComponent])

/** Readable on white and on black. */
const INK = '#7d8590'
const WIDTH = 960
/** Distinguishable on white, on black, and by colour-blind people. */
const COLORS = ['#e0572b', '#4c86d9', '#2f9e77', '#a06bd1']
const MISSED = '#e0572b'
const MET = '#2f9e77'
const NEUTRAL = '#4c86d9'

const axisLabel = { color: INK }
const axisLine = { lineStyle: { color: INK, opacity: 0.5 } }
const splitLine = { lineStyle: { color: INK, opacity: 0.12 } }

/** Bars of ratios, for comparisons with rivals, and the curves. */
export function picturesOf({ comparisons, pictures = [] }: Outcome): string[] {
  const ratios = drawRatios(comparisons)
  return [...(ratios === '' ? [] : [ratios]), ...pictures.map(drawCurves)]
}

/** Our figure divided by the rival's. The rival is the line at 1; each target has a line too. */
function drawRatios(comparisons: readonly Comparison[]): string {
  const bars = comparisons.flatMap((comparison) => {
    const { ratio, met } = summarize(comparison)
    if (ratio === undefined || comparison.rival === undefined) return []
    const { target, figure, what, rival } = comparison
    return [
      {
        name: `${figure}: ${what}\nbeside ${rival.name}`,
        ratio,
        color: met === undefined ? NEUTRAL : met ? MET : MISSED,
        limit: target?.of === 'ratio' ? target.limit : undefined,
      },
    ]
  })
  if (bars.length === 0) return ''
  const all = bars.map(({ ratio }) => ratio).filter((ratio) => ratio > 0 && ratio < Infinity)
  return draw(60 + bars.length * 44, {
    grid: { left: 380, right: 60, top: 24, bottom: 30 },
    // Half as much and twice as much are at the same distance from the rival.
    xAxis: {
      type: 'log',
      min: 10 ** Math.floor(Math.log10(Math.min(0.9, ...all))),
      max: 10 ** Math.ceil(Math.log10(Math.max(2, ...all))),
      axisLabel,
      axisLine,
      splitLine,
    },
    yAxis: {
      type: 'category',
      inverse: true,
      data: bars.map(({ name }) => name),
      axisLabel: { ...axisLabel, fontSize: 11, width: 360, overflow: 'truncate' },
      axisLine,
      axisTick: { show: false },
    },
    series: [
      {
        type: 'bar',
        silent: true,
        barMaxWidth: 18,
        data: bars.map(({ ratio, color }) => ({ value: ratio, itemStyle: { color } })),
        label: {
          show: true,
          position: 'right',
          color: INK,
          formatter: ({ dataIndex }: { dataIndex: number }) => {
            const { ratio = NaN, limit } = bars[dataIndex] ?? {}
            return limit === undefined ? number(ratio) : `${number(ratio)} (${number(limit)})`
          },
        },
        markLine: {
          silent: true,
          symbol: 'none',
          lineStyle: { color: INK, opacity: 0.7, type: 'dashed' },
          label: { color: INK, formatter: 'rival', position: 'end' },
          data: [{ xAxis: 1 }],
        },
      },
    ],
  })
}

function drawCurves({ title, xLabel, yLabel, yLog, curves }: Picture): string {
  return draw(360, {
    color: COLORS,
    title: { text: title, textStyle: { fontSize: 14, color: INK } },
    grid: { left: 70, right: 30, top: 60, bottom: 50 },
    legend: { top: 4, right: 30, icon: 'rect', textStyle: axisLabel },
    xAxis: {
      type: 'value',
      name: xLabel,
      nameLocation: 'middle',
      nameGap: 28,
      nameTextStyle: axisLabel,
      axisLabel,
      axisLine,
      splitLine: { show: false },
    },
    yAxis: {
      type: yLog === true ? 'log' : 'value',
      name: yLabel,
      nameTextStyle: axisLabel,
      axisLabel,
      splitLine,
    },
    series: curves.map(({ name, points }) => ({
      type: 'line',
      name,
      silent: true,
      showSymbol: false,
      data: points,
    })),
  })
}

function draw(heightPx: number, option: EChartsCoreOption): string {
  return drawSvg(WIDTH, heightPx, option)
}
