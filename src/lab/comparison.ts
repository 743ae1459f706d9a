/** Compares two runs: other kernels, other hosts, or the same host before and after a change. */
import type { LabDocument } from './document.js'
import type { Plot } from './plots.js'
import type { Row } from './runner.js'
import { newTable, time } from './text.js'

/** One experiment on which the two runs differ. */
export interface Difference {
  id: string
  a: string
  b: string
  /** Facts seen in both runs, with different values. */
  facts: { name: string; a: string; b: string }[]
}

/** One quantity that both runs measured. */
export interface Ratio {
  id: string
  name: string
  a: number
  b: number
  /** b / a. */
  ratio: number
}

export interface Comparison {
  hosts: { name: string; a: string; b: string }[]
  differences: Difference[]
  ratios: Ratio[]
  /** Ids that only one of the two runs has. */
  onlyInA: string[]
  onlyInB: string[]
  same: number
}

export function compareDocuments(a: LabDocument, b: LabDocument): Comparison {
  const rowsOfB = new Map(b.rows.map((row) => [row.id, row]))
  const idsOfA = new Set(a.rows.map(({ id }) => id))
  const both = a.rows.flatMap((row) => {
    const other = rowsOfB.get(row.id)
    return other === undefined ? [] : [[row, other] as const]
  })
  const differences = both.flatMap((rows) => differenceOf(...rows))
  return {
    hosts: hostsOf(a, b),
    differences,
    ratios: both.flatMap((rows) => ratiosOf(...rows)),
    onlyInA: [...idsOfA].filter((id) => !rowsOfB.has(id)),
    onlyInB: [...rowsOfB.keys()].filter((id) => !idsOfA.has(id)),
    same: both.length - differences.length,
  }
}

function hostsOf(a: LabDocument, b: LabDocument): Comparison['hosts'] {
  const flat = ({ fingerprint }: LabDocument) =>
    new Map(
      Object.entries(fingerprint).map(([name, value]: [string, unknown]) => [
        name,
        typeof value === 'string' ? value : JSON.stringify(value),
      ]),
    )
  const [ofA, ofB] = [flat(a), flat(b)]
  return [...new Set([...ofA.keys(), ...ofB.keys()])]
    .map((name) => ({ name, a: ofA.get(name) ?? 'absent', b: ofB.get(name) ?? 'absent' }))
    .filter((each) => each.a !== each.b)
}

function differenceOf(a: Row, b: Row): Difference[] {
  const facts = a.findings.flatMap(({ name, seen, expected }) => {
    const other = b.findings.find((each) => each.name === name)?.seen
    if (seen === undefined || other === undefined || seen === other) return []
    // Measured numbers never repeat exactly. They differ only if the expectation says so.
    if (isMeasured(expected)) return []
    return [{ name, a: seen, b: other }]
  })
  if (a.verdict === b.verdict && facts.length === 0) return []
  return [{ id: a.id, a: a.verdict, b: b.verdict, facts }]
}

/** Whether an expectation is a range, as that of a measurement is. */
function isMeasured(expected: string | undefined): boolean {
  return (
    expected === undefined || /^(>=|<=|[\d.e+-]+ to )/.test(expected) || expected === 'recorded'
  )
}

function ratiosOf(a: Row, b: Row): Ratio[] {
  const others = new Map(b.plots.flatMap(measuresOf).map(({ name, value }) => [name, value]))
  return a.plots.flatMap(measuresOf).flatMap(({ name, value }) => {
    const other = others.get(name)
    return other === undefined ? [] : [{ id: a.id, name, a: value, b: other, ratio: other / value }]
  })
}

/** One number for each thing that a plot shows. */
function measuresOf(plot: Plot): { name: string; value: number }[] {
  switch (plot.kind) {
    case 'distributions':
      return plot.distributions.map(({ name, p50 }) => ({ name: `${name}, p50`, value: p50 }))
    case 'bars':
      return [...plot.bars]
    case 'curves':
      return plot.curves.flatMap(({ name, x, y }) =>
        y.map((value, index) => ({ name: `${name}, ${plot.xLabel} ${x[index] ?? ''}`, value })),
      )
  }
}

export function comparisonText(comparison: Comparison, columns?: number): string {
  const { hosts, differences, ratios, onlyInA, onlyInB, same } = comparison
  const parts: string[] = []
  if (hosts.length > 0) {
    const table = newTable(['host', 'A', 'B'], [24, 60, 60], columns)
    for (const { name, a, b } of hosts) table.push([name, a, b])
    parts.push(table.toString())
  }
  if (differences.length > 0) {
    const table = newTable(['experiment', 'A', 'B'], [40, 52, 52], columns)
    for (const { id, a, b, facts } of differences) {
      const side = (verdict: string, which: 'a' | 'b') =>
        [verdict, ...facts.map((fact) => `${fact.name}: ${fact[which]}`)].join('\n')
      table.push([id, side(a, 'a'), side(b, 'b')])
    }
    parts.push(table.toString())
  }
  if (ratios.length > 0) {
    const table = newTable(['measured', 'A', 'B', 'B / A'], [70, 16, 16, 10], columns)
    for (const { id, name, a, b, ratio } of ratios) {
      table.push([`${id}: ${name}`, number(name, a), number(name, b), ratio.toFixed(2)])
    }
    parts.push(table.toString())
  }
  if (onlyInA.length > 0) parts.push(`only in A: ${onlyInA.join(', ')}`)
  if (onlyInB.length > 0) parts.push(`only in B: ${onlyInB.join(', ')}`)
  parts.push(`experiments that differ: ${differences.length}, that agree: ${same}`)
  return `${parts.join('\n')}\n`
}

function number(name: string, value: number): string {
  return name.endsWith(', p50') ? time(value) : String(Number(value.toPrecision(3)))
}
