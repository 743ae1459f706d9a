/** `demo --report`: a self-contained page with charts of the migration. */
import { release } from 'node:os'
import type { BlockArrivals } from '../../monitor/index.js'
import { escapeHtml } from '../../view/index.js'
import type { RunResult } from '../demo/run.js'
import { type DemoVerdict, count, summaryRows } from '../demo/summary.js'
import { colors, latencyHistogram, pageMap, rateChart, workChart } from './charts.js'

/** The demo's settings, shown in the page. */
export interface ReportSettings {
  readonly ram: string
  readonly memory: string
  readonly vcpus: number
  readonly workload: string
  readonly postcopyAfter: number | 'now' | 'never'
}

export function renderReport(
  result: RunResult,
  verdict: DemoVerdict,
  settings: ReportSettings,
): string {
  const { samples, milestones, arrivals, info } = result
  const buckets = info['x-postcopy-latency-us']?.buckets ?? []
  const hasFaults = buckets.some((faults) => faults > 0)
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>postcopy: a migration</title>
<style>${style}</style>
</head>
<body>
<header>
<h1>Migration of a running guest</h1>
<p class="${verdict.verified ? 'good' : 'bad'}">${verdict.verified ? '✔' : '✖'} ${escapeHtml(verdict.text)}</p>
<p class="dim">${escapeHtml(describe(settings))}</p>
</header>
<table>
${summaryRows(result)
  .map((cells) => `<tr>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`)
  .join('\n')}
</table>
${section(
  'How each page was received',
  'Guest RAM in the order of addresses. A cell is red if at least one of its pages was requested.',
  [legend, ...arrivals.map(block)].join('\n'),
)}
${
  hasFaults
    ? section(
        'How long the guest waited for a page',
        'Page faults at the destination, from the fault until its page is placed. Each bar begins at 1.4 times the duration of the previous one.',
        latencyHistogram(buckets),
      )
    : ''
}
${
  samples.length > 1
    ? section(
        'What was sent',
        'Bytes on the wire and page faults, sampled every 50 ms.',
        rateChart(samples, milestones),
      ) +
      section(
        'What the guest did during the migration',
        'Pages that the vCPUs touched and checked, first at the source, then at the destination.',
        workChart(samples, milestones),
      )
    : ''
}
<footer class="dim">postcopy, Linux ${escapeHtml(release())}, Node ${escapeHtml(process.versions.node)}, ${new Date().toISOString()}</footer>
</body>
</html>
`
}

const style = `
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  background: light-dark(#fff, #16181c); color: light-dark(#1c1e21, #e3e5e8); }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 0; }
p { margin: .3rem 0; } .dim { color: light-dark(#5c6066, #9aa0a8); font-size: .9rem; }
.good { color: light-dark(#16764f, #54c797); font-weight: 600; }
.bad { color: light-dark(#b3301a, #ff8a70); font-weight: 600; }
table { border-collapse: collapse; margin-top: 1.2rem; }
td { padding: .2rem 1.2rem .2rem 0; vertical-align: top; font-variant-numeric: tabular-nums; }
td:not(:last-child) { white-space: nowrap; }
td:first-child, td:last-child { color: light-dark(#5c6066, #9aa0a8); }
svg { width: 100%; height: auto; display: block; margin: .6rem 0; }
.key i { display: inline-block; width: .8em; height: .8em; margin: 0 .35em 0 1em; border-radius: 2px; }
footer { margin-top: 2.5rem; }
`

const legend = `<p class="key dim">${(['precopied', 'requested', 'pushed'] as const)
  .map((kind) => `<i style="background:${colors[kind]}"></i>${kind}`)
  .join('')}</p>`

function block(arrivals: BlockArrivals): string {
  const { block: name, pages, pagesPerCell, precopied, requested, pushed } = arrivals
  const text =
    `${name}: ${count(pages)} pages, ${count(pagesPerCell)} in a cell; ${count(precopied)} precopied, ` +
    `${count(requested)} requested, ${count(pushed)} pushed`
  return `<p class="dim">${escapeHtml(text)}</p>\n${pageMap(arrivals)}`
}

function section(title: string, text: string, body: string): string {
  return `<section>\n<h2>${title}</h2>\n<p class="dim">${text}</p>\n${body}\n</section>\n`
}

function describe({ ram, memory, vcpus, workload, postcopyAfter }: ReportSettings): string {
  const switched = typeof postcopyAfter === 'number' ? `after ${postcopyAfter} ms` : postcopyAfter
  return `${ram} of ${memory} memory, ${vcpus} vCPUs, workload ${workload}, postcopy ${switched}`
}
