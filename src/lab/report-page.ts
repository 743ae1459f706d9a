/** A run as one self-contained HTML page: no scripts, no requests, plots as SVG. */
import { escapeHtml } from '../view/index.js'
import type { LabDocument } from './document.js'
import { drawPlot } from './draw.js'
import type { Row } from './runner.js'
import { verdicts } from './verdict.js'

/** Makes the page; plots are drawn here, not in the browser. */
export function reportPage(document: LabDocument): string {
  const { fingerprint, rows, counts, startedAt, durationMs } = document
  const title = `The kernel lab: Linux ${fingerprint.kernel}`
  const summary = verdicts
    .map(
      (verdict) =>
        `<span class="${classOf(verdict)}">${escapeHtml(`${counts[verdict]} ${verdict}`)}</span>`,
    )
    .join(' ')
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${style}</style>
</head>
<body>
<h1>${escapeHtml(title)}</h1>
<p class="counts">${summary}</p>
<p>${rows.length} experiments in ${escapeHtml((durationMs / 1000).toFixed(1))} s, begun ${escapeHtml(startedAt)}.
A difference is a finding about this kernel, not a failure; a broken experiment is a failure.</p>
<h2>This host</h2>
${fingerprintTable(document)}
<h2>Measured</h2>
${rows.map(plotsOf).join('\n')}
<h2>Seen and expected</h2>
<table class="rows">
<thead><tr><th>experiment</th><th>expected</th><th>seen</th><th>verdict</th></tr></thead>
<tbody>
${rows.map(rowHtml).join('\n')}
</tbody>
</table>
</body>
</html>
`
}

function fingerprintTable({ fingerprint }: LabDocument): string {
  const lines = Object.entries(fingerprint).map(([name, value]: [string, unknown]) => {
    const text = Array.isArray(value)
      ? value.join(', ')
      : typeof value === 'object' && value !== null
        ? Object.entries(value)
            .map(([key, each]) => `${key}: ${String(each)}`)
            .join(', ')
        : String(value)
    return `<tr><th>${escapeHtml(name)}</th><td>${escapeHtml(text)}</td></tr>`
  })
  return `<table class="host">${lines.join('')}</table>`
}

function plotsOf(row: Row): string {
  return row.plots
    .map(
      (plot) =>
        `<figure data-experiment="${escapeHtml(row.id)}">${drawPlot(plot)}` +
        `<figcaption><a href="#${escapeHtml(row.id)}">${escapeHtml(row.id)}</a>: ${escapeHtml(row.method)}</figcaption></figure>`,
    )
    .join('\n')
}

function rowHtml(row: Row): string {
  const { id, question, method, mirrors, findings, notes, verdict, reason, source } = row
  const facts = (side: (finding: Row['findings'][number]) => string) =>
    findings
      .map(
        (finding) =>
          `<div${finding.agrees ? '' : ' class="other"'}><b>${escapeHtml(finding.name)}</b>: ${escapeHtml(side(finding))}</div>`,
      )
      .join('')
  const upstream =
    mirrors.length === 0 ? '' : `<div class="dim">${escapeHtml(mirrors.join(', '))}</div>`
  return (
    `<tr id="${escapeHtml(id)}"><td><b>${escapeHtml(id)}</b><div>${escapeHtml(question)}</div>` +
    `<div class="dim">${escapeHtml(method)}</div>${upstream}</td>` +
    `<td>${facts(({ expected }) => expected ?? 'recorded')}<div class="dim">${escapeHtml(source)}</div></td>` +
    `<td>${facts(({ seen, unavailable }) => seen ?? unavailable ?? 'not seen')}` +
    `${notes.map((note) => `<div class="dim">${escapeHtml(note)}</div>`).join('')}</td>` +
    `<td class="${classOf(verdict)}">${escapeHtml(verdict)}<div class="dim">${escapeHtml(reason ?? '')}</div></td></tr>`
  )
}

function classOf(verdict: string): string {
  return escapeHtml(verdict.replaceAll(' ', '-'))
}

const style = `
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #1c2733; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border: 1px solid #d5dbe1; padding: .35rem .55rem; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 600; background: #f4f6f8; } table.host th { width: 14rem; }
table.rows td { width: 30%; } table.rows td:last-child { width: 10%; }
.counts span { padding: .2rem .6rem; border-radius: .3rem; margin-right: .3rem; }
.as-expected { background: #e3f3e6; } .differs { background: #fff0cc; }
.not-possible-here { background: #eceff2; } .broken { background: #fbdcdc; }
.other { background: #fff0cc; } .dim { color: #5b6875; font-size: .85em; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
figcaption { color: #5b6875; font-size: .9em; }`
