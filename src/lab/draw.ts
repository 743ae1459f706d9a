/** Draws plots as SVG text. */
import { init } from 'echarts'
import type { EChartsOption } from 'echarts'
import type { Plot } from './plots.js'
import { time } from './text.js'

const widthPx = 900
const heightPx = 420
const yName = { nameLocation: 'middle', nameGap: 58 } as const

/** Draws without a browser. */
export function drawPlot(plot: Plot): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: widthPx, height: heightPx })
  chart.setOption({
    animation: false,
    title: { text: plot.title, textStyle: { fontSize: 15 } },
    grid: { left: 80, right: 30, top: 50, bottom: 120 },
    // Names are long; there is room for four lines of them below the plot.
    legend: { bottom: 0, left: 60, width: widthPx - 120 },
    ...optionsOf(plot),
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}

function optionsOf(plot: Plot): EChartsOption {
  switch (plot.kind) {
    case 'distributions':
      return {
        xAxis: {
          type: 'value',
          name: '% of samples',
          nameLocation: 'middle',
          nameGap: 28,
          max: 100,
        },
        yAxis: { type: 'log', axisLabel: { formatter: (value: number) => time(value) } },
        series: plot.distributions.map(({ name, curve, p50, p99 }) => ({
          type: 'line',
          name: `${name} (p50 ${time(p50)}, p99 ${time(p99)})`,
          showSymbol: false,
          // The last point is the largest sample; its scale would flatten the rest.
          data: curve
            .slice(0, -1)
            .map((value, index) => [(100 * index) / (curve.length - 1), Math.max(1, value)]),
        })),
      }
    case 'curves':
      return {
        xAxis: {
          type: plot.xLog === true ? 'log' : 'value',
          name: plot.xLabel,
          nameLocation: 'middle',
          nameGap: 28,
        },
        yAxis: { type: plot.yLog === true ? 'log' : 'value', name: plot.yLabel, ...yName },
        series: plot.curves.map(({ name, x, y }) => ({
          type: 'line',
          name,
          data: y.map((value, index) => [x[index] ?? 0, value]),
        })),
      }
    case 'bars':
      return {
        legend: { show: false },
        grid: { left: 80, right: 30, top: 50, bottom: 40 },
        xAxis: {
          type: 'category',
          data: plot.bars.map(({ name }) => name),
          axisLabel: { interval: 0 },
        },
        yAxis: { type: plot.yLog === true ? 'log' : 'value', name: plot.yLabel, ...yName },
        series: [
          {
            type: 'bar',
            barMaxWidth: 60,
            label: { show: true, position: 'top' },
            data: plot.bars.map(({ value }) => Number(value.toPrecision(3))),
          },
        ],
      }
  }
}
