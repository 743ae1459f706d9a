import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { type Ends, outcomeOf } from '../../src/soak/outcome.js'
import { planGuest, planLeg } from '../../src/soak/plan.js'

const MAIN = fileURLToPath(new URL('../../src/soak/main.js', import.meta.url))

function soak(...args: readonly string[]): { status: number | null; said: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    encoding: 'utf8',
  })
  return { status, said: `${stdout}${stderr}` }
}

describe('the soak', () => {
  it('survives ten seconds', function () {
    this.timeout(240_000)
    const { status, said } = soak('--minutes', '0.17', '--seed', '4')
    assert.equal(status, 0, said)
    const verified = /(\d+) +│ +checks of every page/.exec(said)?.[1]
    assert(Number(verified) > 0, said)
  })

  it('rejects an invalid duration, seed and leg', () => {
    for (const [option, value] of [
      ['--minutes', '0'],
      ['--minutes', 'long'],
      ['--seed', '-1'],
      ['--leg', 'last'],
    ] as const) {
      const { status, said } = soak(option, value)
      assert.equal(status, 1)
      assert.match(said, new RegExp(`option '${option} .*argument '${value}' is invalid`))
    }
  })

  it('makes the same choices from the same seed', () => {
    for (const leg of [0, 1, 500]) {
      assert.deepEqual(planLeg(3, leg, true), planLeg(3, leg, true))
      assert.notDeepEqual(planLeg(3, leg, true), planLeg(4, leg, true))
      assert.notDeepEqual(planLeg(3, leg, true), planLeg(3, leg + 1, true))
      assert.deepEqual(planGuest(3, leg), planGuest(3, leg))
    }
  })

  it('plans every kind of break, and breaks of the link only if there is one', () => {
    const kinds = (hasCable: boolean): Set<string> => {
      const legs = Array.from({ length: 500 }, (_, leg) => planLeg(1, leg, hasCable))
      return new Set(
        legs.flatMap(({ connections }) => connections.flatMap((one) => one.break?.kind ?? [])),
      )
    }
    assert.equal(kinds(true).size, 11)
    assert.equal(kinds(false).has('link down'), false)
    assert.equal(kinds(false).size, 9)
  })

  describe('detects forbidden outcomes', () => {
    const here = { runsHere: true, runsThere: false }
    const there = { runsHere: false, runsThere: true }
    const nowhere = { runsHere: false, runsThere: false }
    const cases: readonly (readonly [Ends, ReturnType<typeof outcomeOf> | RegExp])[] = [
      [{ source: 'completed', destination: 'completed', ...there }, 'moved'],
      [{ source: 'completed', destination: 'completed', ...nowhere }, /no guest runs/],
      [{ source: 'completed', destination: 'failed', ...nowhere }, /impossible states/],
      [{ source: 'completed', destination: 'gone', ...nowhere }, /impossible states/],
      [{ source: 'postcopy-paused', destination: 'completed', ...there }, 'unconfirmed'],
      [{ source: 'postcopy-recover', destination: 'completed', ...there }, 'unconfirmed'],
      [{ source: 'postcopy-recover', destination: 'failed', ...nowhere }, /impossible states/],
      [{ source: 'postcopy-paused', destination: 'postcopy-paused', ...there }, 'paused'],
      [{ source: 'postcopy-paused', destination: 'postcopy-paused', ...nowhere }, /no guest runs/],
      [
        {
          source: 'postcopy-paused',
          destination: 'postcopy-paused',
          runsHere: true,
          runsThere: true,
        },
        /two guests/,
      ],
      [{ source: 'postcopy-paused', destination: 'failed', ...nowhere }, 'stopped'],
      [
        { source: 'postcopy-paused', destination: 'failed', ...here },
        /the source runs the guest, too/,
      ],
      [{ source: 'failed', destination: 'failed', ...here }, 'stayed'],
      [{ source: 'failed', destination: 'failed', ...nowhere }, 'stopped'],
      [{ source: 'failed', destination: 'postcopy-paused', ...here }, /impossible states/],
    ]
    for (const [ends, expected] of cases) {
      const { source, destination, runsHere, runsThere } = ends
      const where = `${runsHere ? 'running' : 'stopped'} and ${runsThere ? 'running' : 'stopped'}`
      it(`${source} and ${destination}, ${where}`, () => {
        const outcome = outcomeOf(ends)
        if (!(expected instanceof RegExp)) assert.equal(outcome, expected)
        else assert.match(typeof outcome === 'object' ? outcome.wrong : outcome, expected)
      })
    }
  })
})
