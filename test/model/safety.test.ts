/**
 * There are never two running copies, and never none without a way to recover: in every state that
 * two ends, their workers, their connection and their users can reach (docs/safety.md).
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { successors } from '../../src/migration/states.js'
import { Pairs } from './pairs.js'
import { type Mutant, type Rules, mutants, postcopyRules } from './rules.js'
import { type Exploration, explorations, verdictOf } from './spaces.js'
import { judge } from './verdict.js'

const names = Object.keys(explorations) as Exploration[]

let seen: Pairs | undefined

/** The pairs of all explorations together. */
function pairs(): Pairs {
  if (seen === undefined) {
    seen = new Pairs()
    for (const name of names) seen.add(verdictOf(name).space)
  }
  return seen
}

describe('the guarantee of exactly one guest', () => {
  for (const name of names) {
    it(`holds in every state: ${name}`, () => {
      const { space, broken } = verdictOf(name)
      assert.equal(broken, undefined, broken && `${broken.why}\n${broken.way.join('\n')}`)
      const { states, stepCount, depth } = space
      console.log(`      ${states.length} states, ${stepCount} steps, ${depth} steps deep`)
    })
  }

  it('is checked in every state of both ends, and in every transition between them', () => {
    const known = Object.entries(successors).flatMap(([from, to]) =>
      to.map((one) => `${from} ${one}`),
    )
    assert.deepEqual(
      known.filter((step) => !pairs().steps.has(step)),
      [],
    )
  })

  it('is explained in docs/safety.md for every pair of states', () => {
    assert.deepEqual(rowsAfter('pairs'), pairs().table)
  })

  it("needs a person's decision only in the pairs that docs/safety.md names", () => {
    const named = rowsAfter('standstill').slice(1)
    const states = named.map(([source = '', destination = '']) => `${source} ${destination}`)
    assert.deepEqual(states.map((pair) => pair.replaceAll('`', '')).sort(), pairs().standstill)
  })
})

/** The cells of the table that follows a mark, without the line under its titles. */
function rowsAfter(mark: string): string[][] {
  const text = readFileSync(new URL('../../../docs/safety.md', import.meta.url), 'utf8')
  const [, after = ''] = text.split(`<!-- ${mark} -->`)
  const lines = after.trimStart().split('\n')
  const table = lines.slice(0, lines.indexOf('')).filter((line) => !/^[|\s:-]+$/.test(line))
  return table.map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
}

const TWO = 'two copies may run'

/**
 * What each mistake must violate. Two copies are searched for even if
 * another property fails first.
 */
const consequences: Record<Mutant, string> = {
  'the source resumes the guest at any break after the package': TWO,
  'the source treats a break in postcopy-device as a failure and resumes': TWO,
  'the source switches before the guest has stopped': TWO,
  'the source accepts a cancel after the package': TWO,
  'the source completes before SHUT 0':
    'the source completed, but the destination does not have the guest',
  'the source recovers without the received bitmaps': 'no recovery completes the guest',
  'a recovery is accepted from the source of another guest': 'the guest has pages of another guest',
  'the destination runs the guest without claiming it': TWO,
  'the destination sends SHUT 1 although it runs the guest': TWO,
  'the destination rejects a guest that does not start': TWO,
  'the destination sends SHUT 0 before it has every page':
    'the destination completed without every page',
  'the destination fails if its worker dies after a precopy that runs': TWO,
  'the destination loads devices after it was closed':
    'no step is possible, and the migration has not ended',
  'a source whose worker dies after a refusal pauses':
    'the guest runs at a source that is postcopy-device',
  'the guest cannot be taken back from a paused source':
    'no end runs the guest or can run it later',
  'the source reports that the guest is here until the destination confirms it':
    'the source reports that the guest is here, but it may run at the destination',
  'the source reports that the guest is elsewhere when it was sent':
    'the source reports that the guest is elsewhere, but the destination does not have it',
}

function rulesFor(mutant: Mutant): Rules {
  return {
    ...postcopyRules,
    stranger: mutant === 'a recovery is accepted from the source of another guest',
    preempt: mutant === 'the destination sends SHUT 0 before it has every page',
    startFails: mutant === 'the destination rejects a guest that does not start',
    mutant,
  }
}

/** Prints the steps, without the notices to main threads. */
function tell(why: string, way: readonly string[]): void {
  const told = way.filter((step) => !step.includes(' main thread receives '))
  console.log(`      ${why}: ${told.join(' → ')}`)
}

describe('the search finds a violation if', () => {
  for (const mutant of mutants) {
    it(mutant, () => {
      const expected = consequences[mutant]
      const isTold = expected.startsWith('the source reports')
      const scope = expected === TWO ? 'two copies only' : isTold ? undefined : 'nothing told'
      const { broken } = judge(rulesFor(mutant), scope)
      assert(broken !== undefined)
      assert.equal(broken.why, expected)
      tell(broken.why, broken.way)
    })
  }
})
