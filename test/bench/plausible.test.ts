import assert from 'node:assert/strict'
import { measurePlausible } from '../../src/bench/plausible.js'

const good = { totalMs: 900, downtimeMs: 2 }

/** Returns these results one per run; gives the accepted one, and the number of runs. */
async function taken(...results: { totalMs: number; downtimeMs: number }[]) {
  let runs = 0
  const result = await measurePlausible(() => {
    runs += 1
    return Promise.resolve(results[runs - 1] ?? good)
  })
  return { result, runs }
}

describe('a run of a compared program', () => {
  it('counts if its values are possible', async () => {
    assert.deepEqual(await taken(good), { result: good, runs: 1 })
    const stopped = { totalMs: 900, downtimeMs: 900 }
    assert.deepEqual(await taken(stopped), { result: stopped, runs: 1 })
  })

  it('is repeated if its downtime is longer than the migration, or not a number', async () => {
    for (const downtimeMs of [8044749, -1, NaN]) {
      const bad = { totalMs: 955, downtimeMs }
      assert.deepEqual(await taken(bad, bad, good), { result: good, runs: 3 })
    }
    assert.equal((await taken({ totalMs: NaN, downtimeMs: 0 })).runs, 2)
  })

  it('fails the benchmark, naming the value, if no run gives possible values', async () => {
    const bad = { totalMs: 955, downtimeMs: 8044749 }
    await assert.rejects(taken(bad, bad, bad), {
      code: 'ERR_BENCH',
      message: /8044749 ms in a migration of 955 ms/,
    })
  })
})
