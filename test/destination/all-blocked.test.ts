import assert from 'node:assert/strict'
import { AllBlocked } from '../../src/destination/all-blocked.js'

/** Thread, begin or end, time in milliseconds. */
type Step = readonly [number, 'begin' | 'end', number]

const cases: readonly (readonly [string, readonly number[], readonly Step[], number])[] = [
  [
    'nothing without vCPUs',
    [],
    [
      [7, 'begin', 0],
      [7, 'end', 9],
    ],
    0,
  ],
  [
    'all waits of a single vCPU',
    [1],
    [
      [1, 'begin', 0],
      [1, 'end', 3],
      [1, 'begin', 5],
      [1, 'end', 6],
    ],
    4,
  ],
  [
    'nothing while one of two vCPUs can run',
    [1, 2],
    [
      [1, 'begin', 0],
      [1, 'end', 9],
    ],
    0,
  ],
  [
    'the overlap of two waits',
    [1, 2],
    [
      [1, 'begin', 0],
      [2, 'begin', 4],
      [1, 'end', 9],
      [2, 'end', 20],
    ],
    5,
  ],
  [
    'no waits of other threads',
    [1, 2],
    [
      [1, 'begin', 0],
      [7, 'begin', 1],
      [7, 'end', 8],
      [1, 'end', 9],
    ],
    0,
  ],
  [
    'the full time, also if another thread is served meanwhile',
    [1],
    [
      [7, 'begin', 0],
      [1, 'begin', 2],
      [7, 'end', 4],
      [1, 'end', 8],
    ],
    6,
  ],
  ['nothing for a wait that has not ended', [1], [[1, 'begin', 0]], 0],
]

describe('the time during which all vCPUs wait for pages', () => {
  for (const [what, vcpus, steps, totalMs] of cases) {
    it(`counts ${what}`, () => {
      const blocked = new AllBlocked()
      blocked.vcpus = vcpus
      for (const [threadId, what, atMs] of steps) blocked[what](threadId, atMs)
      assert.equal(blocked.totalMs, totalMs)
    })
  }
})
