/** Whether the fuzzer finds planted mistakes. */
import assert from 'node:assert/strict'
import { bounded } from './bounded.js'
import { fuzz } from './campaign.js'
import { BlockCoverage, type Coverage } from './coverage.js'
import { DestinationRig, regions } from './destination-rig.js'
import { Engine, type Found } from './engine.js'
import { Finding, type Target } from './target.js'

const planted = new URL('planted.js', import.meta.url).href
const STEPS = 3000

/** How many steps it took to find the needle; undefined if too many. */
async function findNeedle(coverage: Coverage): Promise<number | undefined> {
  const { targets } = (await import(planted)) as { targets: Record<string, Target> }
  const found: Found[] = []
  const { needle } = targets
  assert(needle !== undefined)
  const engine = new Engine(needle, coverage, 7, {
    trying: () => undefined,
    found: (finding) => found.push(finding),
  })
  await engine.begin([])
  for (let step = 0; step < STEPS; step += 1) {
    await engine.step()
    if (found.length > 0) return step
  }
  return undefined
}

describe('the fuzzer', () => {
  it('finds an input by coverage that random inputs do not find', async () => {
    const coverage = new BlockCoverage((url) => url === planted)
    assert.notEqual(await findNeedle(coverage), undefined)
    assert.equal(await findNeedle({ take: () => [], takeNew: () => [] }), undefined)
  })

  for (const [target, says] of [
    ['hang', /^it hangs/],
    ['death', /^it died: SIGKILL, on one of these inputs/],
  ] as const) {
    it(`reports a target that ends in a ${target}`, async () => {
      const { findings } = await fuzz({
        target,
        seconds: 600,
        seed: 1,
        isKept: false,
        module: planted,
        silentMs: 3000,
      })
      const [finding] = findings
      assert.match(finding?.text ?? '', says)
      // A slow host may be taken for a hang before the first input.
      if (target === 'death') assert(finding?.inputs.some((input) => input[0] === 0))
    })
  }
})

describe('the checks of the fuzzer', () => {
  const setting = { postcopy: false, preempt: false, isResumed: false, hostPages: 1 } as const

  it('detect a byte after a RAM block', () => {
    const rig = new DestinationRig(setting)
    const region = regions[1]
    assert(region !== undefined)
    const after = region.lengthBytes - 4096
    region.write(after + 100, Uint8Array.of(1))
    assert.throws(() => rig.finish(), Finding)
    region.write(after + 100, Uint8Array.of(0xa5))
  })

  it('detect a page that was never sent', () => {
    const rig = new DestinationRig(setting)
    regions[0]?.write(4096, new Uint8Array(4096).fill(9))
    assert.throws(() => rig.finish(), Finding)
  })

  it('detect memory that grows with announced sizes', () => {
    assert.throws(() => bounded(100, () => new Uint8Array(8 * 2 ** 20)), Finding)
    assert.equal(bounded(100, () => new Uint8Array(1000)).length, 1000)
  })
})
