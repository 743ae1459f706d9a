import assert from 'node:assert/strict'
import { Handover, type HandoverState, locationAtSource } from '../../src/source/handover.js'

const steps = {
  'hand over by precopy': (one: Handover) => one.handOver('precopy'),
  'hand over by postcopy': (one: Handover) => one.handOver('postcopy'),
  claim: (one: Handover) => one.claim(),
  confirm: (one: Handover) => one.confirm(),
  'give back': (one: Handover) => one.giveBack(),
  'take back': (one: Handover) => one.takeBack(),
} as const
type Step = keyof typeof steps

const waysTo: Readonly<Record<HandoverState, readonly Step[]>> = {
  none: [],
  precopy: ['hand over by precopy'],
  postcopy: ['hand over by postcopy'],
  claimed: ['hand over by postcopy', 'claim'],
  confirmed: ['hand over by postcopy', 'confirm'],
}

/** Every step that has an effect; all other steps have none. */
const legal: Readonly<Record<HandoverState, Partial<Record<Step, HandoverState>>>> = {
  none: { 'hand over by precopy': 'precopy', 'hand over by postcopy': 'postcopy' },
  precopy: { confirm: 'confirmed', 'give back': 'none', 'take back': 'none' },
  postcopy: { claim: 'claimed', confirm: 'confirmed', 'give back': 'none', 'take back': 'none' },
  // A destination that has confirmed the guest can no longer refuse it.
  claimed: { confirm: 'confirmed', 'take back': 'none' },
  confirmed: { 'take back': 'none' },
}

describe('Handover', () => {
  for (const from of Object.keys(legal) as HandoverState[]) {
    for (const step of Object.keys(steps) as Step[]) {
      const to = legal[from][step] ?? from
      it(`is ${to} after "${step}" in state ${from}`, () => {
        const handover = new Handover()
        for (const one of waysTo[from]) steps[one](handover)
        assert.equal(handover.state, from)
        steps[step](handover)
        assert.equal(handover.state, to)
        assert.equal(new Handover(handover.buffer).state, to, 'for both threads')
      })
    }
  }

  it('reports the location of the guest, if known', () => {
    const told = (hasReturnPath: boolean): string[] =>
      (Object.keys(legal) as HandoverState[]).map((one) => locationAtSource(one, hasReturnPath))
    assert.deepEqual(told(true), ['here', 'unknown', 'unknown', 'elsewhere', 'elsewhere'])
    assert.deepEqual(told(false), ['here', 'unknown', 'unknown', 'elsewhere', 'unknown'])
  })
})
