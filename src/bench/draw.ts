/** The page's pictures, each one drawn to an SVG string without a browser. */
import { BarChart, LineChart } from 'echarts/charts'
import {
  GridComponent,
  LegendComponent,
  MarkLineComponent,
  TitleComponent,
} from 'echarts/components'
import { type EChartsCoreOption, init, use } from 'echarts/core'
import { SVGRenderer } from 'echarts/renderers'
import type { Comparison, Picture } from './benchmark.js'
import { number, summarize } from './table.js'

use([
  BarChart,
  LineChart,
  GridComponent,
  LegendComponent,
  MarkLineComponent,
  TitleComponent,
  SVGRenderer,
])

/** The page's own text colour: dark or light, as the reader has it. */
const INK = 'currentColor'
const WIDTH = 960
/** Chosen to be told apart on white, on black, and by colour-blind people. */
const COLORS = ['#e0572b', '#4c86d9', '#2f9e77', '#a06bd1']
const MISSED = '#e0572b'
const MET = '#2f9e77'
const NEUTRAL = '#4c86d9'

const axisLabel = { color: INK }
const axisLine = { lineStyle: { color: INK, opacity: 0.5 } }
const splitLine = { lineStyle: { color: INK, opacity: 0.12 } }

/** Our figure divided by the rival's; the rival, 1, is drawn in, and so is each target. */
export function drawRatios(comparisons: readonly Comparison[]): string {
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
  return draw(60 + bars.length * 44, {
    grid: { left: 380, right: 60, top: 24, bottom: 30 },
    xAxis: { type: 'value', axisLabel, axisLine, splitLine },
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

export function drawCurves({ title, xLabel, yLabel, yLog, curves }: Picture): string {
  return draw(360, {
    color: COLORS,
    title: { text: title, textStyle: { fontSize: 14, color: INK } },
    grid: { left: 70, right: 30, top: 60, bottom: 50 },
    legend: { top: 26, icon: 'rect', textStyle: axisLabel },
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

function draw(height: number, option: EChartsCoreOption): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height })
  try {
    chart.setOption({ animation: false, ...option })
    return chart.renderToSVGString({ useViewBox: true })
  } finally {
    chart.dispose()
  }
}
