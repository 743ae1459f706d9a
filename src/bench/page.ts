/** A run as one self-contained HTML page: the table, bars of ratios, curves, all SVG. */
import { escapeHtml } from '../view/index.js'
import type { Benchmark, Comparison, Outcome } from './benchmark.js'
import { picturesOf } from './draw.js'
import { cellsOf, summarize } from './table.js'

export function benchPage(host: string, outcomes: ReadonlyMap<Benchmark, Outcome>): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>postcopy: what migrations cost</title>
<style>${style}</style>
</head>
<body>
<h1>What migrations cost</h1>
<p class="dim">${escapeHtml(host)}. Rivals took turns in one run. Values are medians, with minimum and
maximum; ratios are medians of each round's own.</p>
${[...outcomes].map(([benchmark, outcome]) => section(benchmark, outcome)).join('\n')}
</body>
</html>
`
}

function section({ name, question }: Benchmark, outcome: Outcome): string {
  const { comparisons, skipped = [] } = outcome
  return `<section id="${name}">
<h2>${name}: ${escapeHtml(question)}</h2>
${skipped.map((reason) => `<p class="dim">Not run: ${escapeHtml(reason)}</p>`).join('\n')}
${comparisons.length === 0 ? '' : table(comparisons)}
${picturesOf(outcome)
  .map((svg) => `<figure>${svg}</figure>`)
  .join('\n')}
</section>`
}

function table(comparisons: readonly Comparison[]): string {
  const rows = comparisons.map((comparison) => {
    const summary = summarize(comparison)
    const { met } = summary
    const cells = cellsOf(comparison, summary)
    const verdict =
      met === undefined ? '<td></td>' : met ? '<td class="good">✔</td>' : '<td class="bad">✖</td>'
    return `<tr>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}${verdict}</tr>`
  })
  return `<table>
<thead><tr><th>case</th><th>figure</th><th>postcopy</th><th>rival</th><th>ratio</th><th>target</th><th></th></tr></thead>
<tbody>
${rows.join('\n')}
</tbody>
</table>`
}

const style = `
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem;
  background: light-dark(#fff, #16181c); color: light-dark(#1c1e21, #e3e5e8); }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.4rem 0 .6rem; }
.dim { color: light-dark(#5c6066, #9aa0a8); font-size: .9rem; }
.good { color: light-dark(#16764f, #54c797); font-weight: 600; }
.bad { color: light-dark(#b3301a, #ff8a70); font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid light-dark(#e2e5e9, #2c3036); font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; } svg { width: 100%; max-width: 60rem; height: auto; display: block; }
`
