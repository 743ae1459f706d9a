import assert from 'node:assert/strict'
import { PhaseMachine, type PhaseTable } from '../../src/migration/phases.js'

type Phase = 'begin' | 'middle' | 'again' | 'end'
type Event = 'go' | 'RAM' | 'stay' | 'fail' | 'retry'
type Action = 'first' | 'second' | 'after'

const table: PhaseTable<Phase, Event, Action> = {
  begin: {
    state: 'active',
    on: {
      go: { to: 'end', do: ['first', 'second'], then: ['after'] },
      stay: { to: 'begin', do: ['first'] },
      RAM: { error: 'a RAM section before its time' },
      retry: { to: 'again' },
    },
  },
  middle: { state: 'active', on: { fail: { to: 'again' } } },
  again: { state: 'active', on: { fail: { to: 'again' }, go: { to: 'middle' } } },
  end: { state: 'completed', on: {} },
}

function machine(initial: Phase = 'begin') {
  const log: string[] = []
  const add = (text: string) => () => void log.push(text)
  const phases = new PhaseMachine(table, initial, (state, error) => {
    log.push(typeof error === 'string' ? `${state}: ${error}` : state)
  })
  return {
    log,
    phases,
    actions: { first: add('first'), second: add('second'), after: add('after') },
  }
}

describe('PhaseMachine', () => {
  it('acts, enters and announces the phase, and then does the rest', () => {
    const { log, phases, actions } = machine()
    phases.take('go', { ...actions, after: () => void log.push(phases.phase) })
    assert.deepEqual(log, ['first', 'second', 'completed', 'end'])
    assert.equal(phases.state, 'completed')
    assert.equal(phases.is('begin', 'end'), true)
    assert.equal(phases.is('begin'), false)
  })

  it('announces no state that is the same as before', () => {
    const { log, phases, actions } = machine()
    phases.take('stay', actions)
    phases.take('retry')
    assert.deepEqual([log, phases.phase], [['first'], 'again'])
  })

  it('announces a failure that leads to another phase of the same state, and no other', () => {
    const { log, phases } = machine('middle')
    phases.take('fail', {}, 'broken')
    phases.take('fail', {}, 'still broken')
    assert.deepEqual(log, ['active: broken'])
  })

  it('keeps its phase if an action throws', () => {
    const { log, phases, actions } = machine()
    const error = new Error('no memory')
    const second = (): never => {
      throw error
    }
    assert.throws(() => phases.take('go', { ...actions, second }), error)
    assert.deepEqual([log, phases.phase], [['first'], 'begin'])
  })

  it('has no effect if an action has changed the phase', () => {
    const { log, phases, actions } = machine()
    const first = (): void => phases.take('retry')
    assert.throws(() => phases.take('go', { ...actions, first }), { code: 'ERR_STATE_TRANSITION' })
    assert.deepEqual([log, phases.phase], [[], 'again'])
  })

  it('needs each action of its table', () => {
    const { phases, actions } = machine()
    assert.throws(() => phases.take('go', { first: actions.first }), {
      code: 'ERR_INTERNAL',
      message: /go in begin lacks second/,
    })
  })

  it('rejects an element of the stream by its name, or with the reason of its table', () => {
    const { phases } = machine()
    assert.equal(phases.accepts('RAM'), false)
    assert.throws(() => phases.check('RAM'), {
      code: 'ERR_STATE_COMMAND',
      message: /a RAM section before its time is not valid in this phase/,
    })
    assert.throws(() => machine('end').phases.take('RAM'), {
      code: 'ERR_STATE_COMMAND',
      message: /RAM is not valid in this phase/,
    })
  })

  it('rejects an event of this program', () => {
    const { phases, log } = machine('end')
    assert.equal(phases.accepts('go'), false)
    assert.throws(() => phases.take('go'), { code: 'ERR_STATE_TRANSITION' })
    assert.deepEqual(log, [])
  })
})
