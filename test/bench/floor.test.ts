import assert from 'node:assert/strict'
import { floorFault, floorPush } from '../../src/bench/floor.js'

describe('the C program that the benchmarks compare with', () => {
  for (const mode of ['records', 'runs'] as const) {
    for (const zeroPercent of [0, 50, 100]) {
      it(`pushes ${mode}, ${zeroPercent} % of them zero`, async () => {
        const { seconds, gigabytesPerSecond } = await floorPush({ mode, mib: 16, zeroPercent })
        const product = seconds * gigabytesPerSecond
        assert.ok(Math.abs(product / ((16 * 2 ** 20) / 1e9) - 1) < 0.01, String(product))
      })
    }
  }

  it('touches missing pages', async () => {
    const { p50Us, p99Us, p999Us, maxUs, quantilesUs } = await floorFault({ count: 200, mib: 16 })
    assert.ok(p50Us <= p99Us && p99Us <= p999Us && p999Us <= maxUs)
    assert.deepEqual(
      quantilesUs,
      [...quantilesUs].sort((a, b) => a - b),
    )
    assert.equal(quantilesUs[100], p50Us)
    assert.equal(quantilesUs.at(-1), maxUs)
  })

  it('touches every page', async () => {
    assert.ok((await floorFault({ count: 256, mib: 1 })).p50Us > 0)
  })

  it('rejects arguments that cannot be measured, with the reason', async () => {
    const usage = { code: 'ERR_BENCH', message: /^Usage: floor push/ }
    for (const mib of [0, -1, 1.5, NaN]) {
      await assert.rejects(floorPush({ mode: 'runs', mib }), usage)
    }
    await assert.rejects(floorPush({ mode: 'runs', mib: 1, zeroPercent: 101 }), usage)
    await assert.rejects(floorFault({ count: 0, mib: 1 }), usage)
    await assert.rejects(floorFault({ count: 257, mib: 1 }), {
      code: 'ERR_BENCH',
      message: /--count is more than the pages/,
    })
  })

  it('reports how to build a missing program', async () => {
    const before = process.env['POSTCOPY_NATIVE_DIR']
    process.env['POSTCOPY_NATIVE_DIR'] = '/nonexistent'
    try {
      await assert.rejects(floorFault({ count: 1, mib: 1 }), {
        code: 'ERR_BENCH',
        message: /\/nonexistent\/floor does not exist: POSTCOPY_NATIVE_DIR names this folder/,
      })
    } finally {
      if (before === undefined) delete process.env['POSTCOPY_NATIVE_DIR']
      else process.env['POSTCOPY_NATIVE_DIR'] = before
    }
  })
})
