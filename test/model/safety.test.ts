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

describe('never two, never none', () => {
  for (const name of names) {
    it(`holds in every state: ${name}`, () => {
      const { space, broken } = verdictOf(name)
      assert.equal(broken, undefined, broken && `${broken.why}\n${broken.way.join('\n')}`)
      const { states, stepCount, depth } = space
      console.log(`      ${states.length} states, ${stepCount} steps, ${depth} steps deep`)
    })
  }

  it('was asked in every state of both ends, and on every way between them', () => {
    const known = Object.entries(successors).flatMap(([from, to]) =>
      to.map((one) => `${from} ${one}`),
    )
    assert.deepEqual(
      known.filter((step) => !pairs().steps.has(step)),
      [],
    )
  })

  it('is argued in docs/safety.md for every pair of states', () => {
    assert.deepEqual(rowsBehind('pairs'), pairs().table)
  })

  it('is left to a person in the pairs that docs/safety.md names, and in no other', () => {
    const named = rowsBehind('standstill').slice(1)
    const states = named.map(([source = '', destination = '']) => `${source} ${destination}`)
    assert.deepEqual(states.map((pair) => pair.replaceAll('`', '')).sort(), pairs().standstill)
  })
})

/** The cells of the table that follows a mark, without the line under its titles. */
function rowsBehind(mark: string): string[][] {
  const text = readFileSync(new URL('../../../docs/safety.md', import.meta.url), 'utf8')
  const [, behind = ''] = text.split(`<!-- ${mark} -->`)
  const lines = behind.trimStart().split('\n')
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
  'the source resumes the guest on any break behind the package': TWO,
  'the source takes a break in postcopy-device for a failure and resumes': TWO,
  'the source hands over before the guest has stopped': TWO,
  'the source lets a cancel through behind the package': TWO,
  'the source lets go before SHUT 0': 'the source let go of what is not at the destination',
  'the source recovers without the received bitmaps': 'no recovery makes the guest whole',
  'a recovery is accepted from the source of another guest': 'the guest has pages of another one',
  'the destination runs the guest without claiming it': TWO,
  'the destination says SHUT 1 when it runs the guest': TWO,
  'the destination gives back a guest that does not start': TWO,
  'the destination says SHUT 0 before it has every page':
    'the destination completed without every page',
  'the destination fails where its worker dies behind a precopy that runs': TWO,
  'the destination loads devices when it is closed': 'nothing happens any more, and it is not over',
  'a source whose worker dies behind a refusal pauses':
    'the guest runs at a source that is postcopy-device',
  'nobody can take the guest back from a paused source': 'nobody runs the guest, or ever will',
  'the source tells that the guest is here until the destination confirms it':
    'the source tells that the guest is here, and it may run at the destination',
  'the source tells that the guest is elsewhere when it was sent':
    'the source tells that the guest is elsewhere, and the destination does not have it',
}

function rulesFor(mutant: Mutant): Rules {
  return {
    ...postcopyRules,
    stranger: mutant === 'a recovery is accepted from the source of another guest',
    preempt: mutant === 'the destination says SHUT 0 before it has every page',
    startFails: mutant === 'the destination gives back a guest that does not start',
    mutant,
  }
}

/** Prints the steps, without the notices to main threads. */
function tell(why: string, way: readonly string[]): void {
  const told = way.filter((step) => !step.includes(' main thread is told: '))
  console.log(`      ${why}: ${told.join(' → ')}`)
}

describe('the search finds out where', () => {
  for (const mutant of mutants) {
    it(mutant, () => {
      const expected = consequences[mutant]
      const isTold = expected.startsWith('the source tells')
      const scope = expected === TWO ? 'two copies only' : isTold ? undefined : 'nothing told'
      const { broken } = judge(rulesFor(mutant), scope)
      assert(broken !== undefined)
      assert.equal(broken.why, expected)
      tell(broken.why, broken.way)
    })
  }
})
