/**
 * The tables of phases: every phase is used, and the announced and documented states are those of
 * the tables.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { incomingPhases } from '../../src/destination/phases.js'
import { type PhaseTable, PhaseMachine } from '../../src/migration/phases.js'
import { successors } from '../../src/migration/states.js'
import { parkPhases } from '../../src/park/phases.js'
import { sourcePhases } from '../../src/source/phases.js'

type AnyTable = PhaseTable<string, string, string>

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

describe('a phase machine', () => {
  const table: PhaseTable<'a' | 'b' | 'c', 'go' | 'stay' | 'fail' | 'STOP', 'first' | 'last'> = {
    a: {
      state: 'setup',
      on: { go: { to: 'b', do: ['first'], then: ['last'] }, stay: { to: 'a' }, fail: { to: 'c' } },
    },
    b: { state: 'active', on: { STOP: { error: 'stopping it here' } } },
    c: { state: 'failed', on: {} },
  }

  function machine() {
    const seen: string[] = []
    const phases = new PhaseMachine(table, 'a', (state) => seen.push(state))
    const note = (action: string) => () => void seen.push(action)
    return { phases, seen, actions: { first: note('first'), last: note('last') } }
  }

  it('runs the actions of the table before and after it announces the next state', () => {
    const { phases, seen, actions } = machine()
    phases.take('stay')
    phases.take('go', actions)
    assert.deepEqual([phases.phase, seen], ['b', ['first', 'active', 'last']])
  })

  it('refuses every other event, with the text of the table if there is one', () => {
    const { phases, seen, actions } = machine()
    assert.throws(() => phases.take('STOP'), {
      message: 'STOP is not valid in this phase (state a)',
    })
    phases.take('go', actions)
    assert.throws(
      () => phases.take('STOP'),
      /stopping it here is not valid in this phase \(state b\)/,
    )
    assert.throws(() => phases.check('STOP'), { code: 'ERR_STATE_COMMAND' })
    assert.throws(() => phases.check('go'), { code: 'ERR_STATE_TRANSITION' })
    assert.equal(seen.length, 3)
  })

  it('stays in its phase when an action throws', () => {
    const { phases, seen } = machine()
    const first = () => {
      throw new Error('not possible')
    }
    assert.throws(() => phases.take('go', { first }), /not possible/)
    assert.deepEqual([phases.phase, seen], ['a', []])
  })

  it('keeps a failure that occurs while an action runs', () => {
    const { phases, seen } = machine()
    const first = () => phases.take('fail')
    assert.throws(() => phases.take('go', { first }), { code: 'ERR_STATE_TRANSITION' })
    assert.deepEqual([phases.phase, seen], ['c', ['failed']])
  })

  it('announces a failure that leads to another phase of the same state', () => {
    const seen: unknown[] = []
    const phases = new PhaseMachine<'a' | 'b', 'fail' | 'ignore', never>(
      {
        a: { state: 'postcopy-paused', on: { fail: { to: 'b' }, ignore: { to: 'a' } } },
        b: { state: 'postcopy-paused', on: {} },
      },
      'a',
      (state, error) => seen.push([state, error]),
    )
    phases.take('ignore', {}, 'not announced')
    phases.take('fail', {}, 'why')
    assert.deepEqual(seen, [['postcopy-paused', 'why']])
  })

  it('does not omit an action', () => {
    const { phases } = machine()
    assert.throws(() => phases.take('go'), /go in a lacks first/)
  })
})
