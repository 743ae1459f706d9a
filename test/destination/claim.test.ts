import assert from 'node:assert/strict'
import { Claim, type ClaimState } from '../../src/destination/claim.js'

type Action = 'beginLoading' | 'take' | 'giveBack' | 'becomeWhole'

/** The actions that lead to each state. */
const waysTo: Readonly<Record<ClaimState, readonly Action[]>> = {
  none: [],
  loading: ['beginLoading'],
  lost: ['giveBack'],
  running: ['beginLoading', 'take'],
  whole: ['beginLoading', 'take', 'becomeWhole'],
}

/** Every exchange that has an effect; all others are refused. */
const legal: Readonly<Record<ClaimState, Partial<Record<Action, ClaimState>>>> = {
  none: { beginLoading: 'loading', giveBack: 'lost' },
  loading: { take: 'running', giveBack: 'lost' },
  lost: {},
  running: { becomeWhole: 'whole' },
  whole: {},
}

const actions: readonly Action[] = ['beginLoading', 'take', 'giveBack', 'becomeWhole']

describe('Claim', () => {
  for (const from of Object.keys(legal) as ClaimState[]) {
    for (const action of actions) {
      const to = legal[from][action] ?? from
      it(`is ${to} after ${action} in state ${from}`, () => {
        const claim = new Claim()
        for (const one of waysTo[from]) claim[one]()
        assert.equal(claim.state, from)
        const answer = claim[action]()
        assert.equal(claim.state, to)
        if (action === 'beginLoading' || action === 'take') assert.equal(answer, to !== from)
        // SHUT 1 lets the source run its guest, so it must not follow if this end may run it.
        if (action === 'giveBack') assert.equal(answer, to === 'lost')
      })
    }
  }

  it('is shared by both threads', () => {
    const main = new Claim()
    const worker = new Claim(main.buffer)
    worker.beginLoading()
    assert.equal(main.take(), true)
    assert.equal(worker.giveBack(), false)
    assert.deepEqual([main.isTaken, worker.isTaken], [true, true])
  })
})
