/** Formats results for a terminal. */
import Table from 'cli-table3'
import type { Described } from './describe.js'
import type { LabDocument } from './document.js'
import type { Plot } from './plots.js'
import type { Row } from './runner.js'
import { verdicts } from './verdict.js'
import type { Verdict } from './verdict.js'

const marks: Readonly<Record<Verdict, string>> = {
  'as expected': '✔ as expected',
  differs: '≠ differs',
  'not possible here': '- not possible',
  broken: '✖ broken',
}

/** The catalogue: each question, and what the experiment needs. */
export function listText(experiments: readonly Described[], columns?: number): string {
  const table = newTable(['id', 'question', 'needs', 'tags'], [28, 64, 28, 22], columns)
  for (const { id, question, needs, tags } of experiments) {
    table.push([id, question, needsText(needs), tags.join(', ')])
  }
  return `${table.toString()}\n${experiments.length} experiments\n`
}

function needsText(needs: Described['needs']): string {
  const { root, kernelFaults, features = [], minimumKernel, hugePages, memoryMiB } = needs
  return [
    ...(root === true ? ['root'] : []),
    ...(kernelFaults === true ? ['kernel faults'] : []),
    ...(minimumKernel === undefined ? [] : [`Linux ${minimumKernel}`]),
    ...(hugePages === undefined ? [] : [`${hugePages} huge pages`]),
    ...(memoryMiB === undefined ? [] : [`${memoryMiB} MiB`]),
    ...features,
  ].join(', ')
}

/** The line for one finished row, printed during the run. */
export function rowLine(row: Row): string {
  const why = row.reason === undefined ? '' : `  ${row.reason.split('\n')[0] ?? ''}`
  return `${marks[row.verdict].padEnd(15)} ${row.id.padEnd(30)} ${String(row.durationMs).padStart(6)} ms${why}`
}

/** All facts that were seen, next to the expected ones. */
export function resultText(document: LabDocument, columns?: number): string {
  const table = newTable(['experiment', 'expected', 'seen', 'verdict'], [44, 40, 40, 18], columns)
  for (const row of document.rows) {
    table.push([
      `${row.id}\n${row.question}`,
      row.findings.map(({ name, expected }) => `${name}: ${expected ?? 'recorded'}`).join('\n'),
      seenText(row),
      `${marks[row.verdict]}\n${row.reason ?? ''}`,
    ])
  }
  return `${table.toString()}\n${countsText(document)}\n`
}

function seenText({ findings, notes, plots }: Row): string {
  return [
    ...findings.map(({ name, seen, agrees, unavailable }) => {
      const mark = agrees ? '' : '≠ '
      return `${mark}${name}: ${seen ?? unavailable ?? 'not seen'}`
    }),
    ...plots.flatMap(plotLines),
    ...notes,
  ].join('\n')
}

/** The medians of what the HTML page would plot. */
function plotLines(plot: Plot): string[] {
  if (plot.kind !== 'distributions') return []
  return plot.distributions.map(
    ({ name, p50, p99, count }) => `${name}: p50 ${time(p50)}, p99 ${time(p99)} (${count})`,
  )
}

/** Formats nanoseconds with a unit and three digits. */
export function time(nanoseconds: number): string {
  const [value, unit] =
    nanoseconds >= 1e6
      ? [nanoseconds / 1e6, 'ms']
      : nanoseconds >= 1e3
        ? [nanoseconds / 1e3, 'µs']
        : [nanoseconds, 'ns']
  return `${Number(value.toPrecision(3))} ${unit}`
}

export function countsText({ counts, durationMs, fingerprint }: LabDocument): string {
  const all = verdicts.map((verdict) => `${counts[verdict]} ${verdict}`).join(', ')
  const seconds = (durationMs / 1000).toFixed(1)
  return `${all}; ${seconds} s; Linux ${fingerprint.kernel}, ${fingerprint.user}`
}

/** @param columns - width of the terminal; without it, `widths` apply unchanged */
export function newTable(
  head: string[],
  widths: number[],
  columns?: number,
): InstanceType<typeof Table> {
  const total = widths.reduce((sum, width) => sum + width, 0)
  const available = columns === undefined ? total : Math.max(80, columns)
  const share = Math.min(1, (available - widths.length - 1) / total)
  return new Table({
    head,
    style: { head: [], border: [] },
    colWidths: widths.map((width) => Math.max(12, Math.floor(width * share))),
    wordWrap: true,
  })
}
