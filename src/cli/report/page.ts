/** `demo --report`: a self-contained page with charts of the migration. */
import { release } from 'node:os'
import { escapeHtml } from '../../view/index.js'
import type { RunResult } from '../demo/run.js'
import { type DemoVerdict, summaryRows } from '../demo/summary.js'
import { type PageKind, colors } from './charts.js'
import { type ReportSettings, type Section, describeSettings, sectionsOf } from './sections.js'

export function renderReport(
  result: RunResult,
  verdict: DemoVerdict,
  settings: ReportSettings,
): string {
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
<p class="dim">${escapeHtml(describeSettings(settings))}</p>
</header>
<table>
${summaryRows(result)
  .map((cells) => `<tr>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`)
  .join('\n')}
</table>
${sectionsOf(result).map(render).join('')}<footer class="dim">postcopy, Linux ${escapeHtml(release())}, Node ${escapeHtml(process.versions.node)}, ${new Date().toISOString()}</footer>
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

function key(kinds: readonly PageKind[]): string {
  const entries = kinds.map((kind) => `<i style="background:${colors[kind]}"></i>${kind}`)
  return `<p class="key dim">${entries.join('')}</p>`
}

function render({ title, text, legend, charts }: Section): string {
  const parts = charts.map(({ caption, picture: { svg } }) =>
    caption === undefined ? svg : `<p class="dim">${escapeHtml(caption)}</p>\n${svg}`,
  )
  const body = [...(legend === undefined ? [] : [key(legend)]), ...parts].join('\n')
  return `<section>\n<h2>${title}</h2>\n<p class="dim">${text}</p>\n${body}\n</section>\n`
}
