/**
 * The tables of phases: every phase is used, and the announced and documented states are those of
 * the tables.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { incomingPhases } from '../../src/destination/phases.js'
import type { EventName, PhaseTable } from '../../src/migration/phases.js'
import { successors } from '../../src/migration/states.js'
import { parkPhases } from '../../src/park/phases.js'
import { sourcePhases } from '../../src/source/phases.js'

type AnyTable = PhaseTable<string, EventName, string>

const tables: Readonly<Record<string, { table: AnyTable; begins: readonly string[] }>> = {
  source: { table: sourcePhases, begins: ['none', 'paused'] },
  destination: { table: incomingPhases, begins: ['none', 'to-recover'] },
  park: { table: parkPhases, begins: ['none', 'to-recover'] },
}

/** Events that are not in the diagram; the text below it explains where failures lead. */
const failures = ['failed', 'lost', 'broken', 'refused']

interface Edge {
  readonly from: string
  readonly event: string
  readonly to: string
}

function edgesOf(table: AnyTable): Edge[] {
  return Object.entries(table).flatMap(([from, { on }]) =>
    Object.entries(on).flatMap(([event, cell]) =>
      cell === undefined || 'error' in cell ? [] : [{ from, event, to: cell.to }],
    ),
  )
}

/** A state diagram in Mermaid. */
function diagram(table: AnyTable): string {
  const labels = new Map<string, string[]>()
  for (const { from, event, to } of edgesOf(table)) {
    if (from === to || failures.includes(event)) continue
    const edge = `${id(from)} --> ${id(to)}`
    labels.set(edge, [...(labels.get(edge) ?? []), event])
  }
  const phases = Object.keys(table).map((phase) => `  ${id(phase)}: ${phase}`)
  const edges = [...labels].map(([edge, events]) => `  ${edge}: ${events.join(', ')}`)
  return ['```mermaid', 'stateDiagram-v2', ...phases, ...edges, '```'].join('\n')
}

function id(phase: string): string {
  return phase.replaceAll('-', '_')
}

/** The text between one mark in docs/architecture.md and the next. */
function documented(mark: string): string {
  const text = readFileSync(new URL('../../../docs/architecture.md', import.meta.url), 'utf8')
  const [, after = ''] = text.split(`<!-- ${mark} -->`)
  return (after.split('<!-- end -->')[0] ?? '').trim()
}

describe('the phases of an end', () => {
  for (const [name, { table, begins }] of Object.entries(tables)) {
    it(`are all reached: ${name}`, () => {
      const reached = new Set(begins)
      for (const phase of reached) {
        for (const { from, to } of edgesOf(table)) if (from === phase) reached.add(to)
      }
      assert.deepEqual(Object.keys(table).sort(), [...reached].sort())
    })

    it(`announce states only in documented orders: ${name}`, () => {
      for (const { from, event, to } of edgesOf(table)) {
        const [before, after] = [table[from]?.state, table[to]?.state]
        assert(before !== undefined && after !== undefined)
        const isKnown = before === after || successors[before].includes(after)
        assert(isKnown, `${event} leads from ${from} (${before}) to ${to} (${after})`)
      }
    })

    if (name !== 'park')
      it(`are drawn in docs/architecture.md: ${name}`, () => {
        const drawn = diagram(table)
        assert.equal(documented(`phases of the ${name}`), drawn, `it has to be\n${drawn}`)
      })
  }

  it('of parking are those of a destination, except for a recovery', () => {
    const differing = Object.keys(incomingPhases).filter(
      (phase) =>
        parkPhases[phase as keyof typeof parkPhases] !==
        incomingPhases[phase as keyof typeof parkPhases],
    )
    assert.deepEqual(differing, ['to-recover', 'recover-setup', 'recover'])
  })
})
