/** Formats measurements as text. */
import Table from 'cli-table3'
import type { Comparison, Target } from './benchmark.js'
import { median, ratios, spread } from './statistics.js'

/** Our value, and the rival's if there is one, of the median round. */
export interface Summary {
  readonly ours: string
  readonly rival: string
  readonly ratio: number | undefined
  readonly target: string
  /** Undefined without a target. */
  readonly met: boolean | undefined
}

export function summarize({ ours, rival, target, unit }: Comparison): Summary {
  const ratio = rival === undefined ? undefined : median(ratios(ours, rival.values))
  const value = target?.of === 'ratio' ? ratio : median(ours)
  return {
    ours: `${show(ours)} ${unit}`.trimEnd(),
    rival: rival === undefined ? '' : `${rival.name}: ${show(rival.values)} ${unit}`.trimEnd(),
    ratio,
    target: target === undefined ? '' : describe(target, unit),
    met: target === undefined || value === undefined ? undefined : meets(value, target),
  }
}

export function meets(value: number, { sense, limit }: Target): boolean {
  return sense === 'at least' ? value >= limit : value <= limit
}

function describe({ of, sense, limit }: Target, unit: string): string {
  return `${sense} ${number(limit)}${of === 'ratio' ? ' of it' : ` ${unit}`}`
}

/** Median (minimum - maximum). */
function show(values: readonly number[]): string {
  const { min, median: middle, max } = spread(values)
  return `${number(middle)} (${number(min)} - ${number(max)})`
}

/** Three digits: a round is not more precise. */
export function number(value: number): string {
  if (!Number.isFinite(value)) return '-'
  const digits = value === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))))
  return value.toFixed(Math.min(3, digits))
}

/** A row of the table, without the cell that says whether the target is met. */
export function cellsOf(comparison: Comparison, { ours, rival, ratio, target }: Summary): string[] {
  const { what, figure } = comparison
  return [what, figure, ours, rival, ratio === undefined ? '' : number(ratio), target]
}

export function tableText(comparisons: readonly Comparison[]): string {
  const table = new Table({
    style: { head: [], border: [] },
    head: ['case', 'figure', 'postcopy', 'rival', 'ratio', 'target', 'met'],
    colWidths: [34, 24, 28, 34, 8, 16, 5],
    wordWrap: true,
  })
  for (const comparison of comparisons) {
    const summary = summarize(comparison)
    const { met } = summary
    table.push([...cellsOf(comparison, summary), met === undefined ? '' : met ? 'yes' : 'NO'])
  }
  return table.toString()
}
