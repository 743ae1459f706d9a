import assert from 'node:assert/strict'
import { anything, atLeast, atMost, between, experiment, oneOf } from '../../src/lab/index.js'
import { satisfies } from '../../src/lab/match.js'
import { isOlder } from '../../src/host/needs.js'
import { compare, expectationFor, judge } from '../../src/lab/verdict.js'

const expectation = { values: { a: 1, b: between(1, 2) }, source: 'a book' }

describe('a verdict', () => {
  it('is "as expected" only when every fact agrees', () => {
    assert.equal(judge(compare(expectation, { a: 1, b: 1.5 })), 'as expected')
    assert.equal(judge(compare(expectation, { a: 2, b: 1.5 })), 'differs')
    assert.equal(judge(compare(expectation, { a: 1, b: 2.5 })), 'differs')
  })

  it('is "differs" when a fact that was expected was not seen', () => {
    assert.equal(judge(compare(expectation, { a: 1 })), 'differs')
  })

  it('ignores facts without an expectation', () => {
    assert.equal(judge(compare(expectation, { a: 1, b: 1, c: 'new' })), 'as expected')
    assert.equal(judge(compare(undefined, { c: 'new' })), 'as expected')
  })

  it('is "not possible here" if no fact could be observed, and "broken" without any fact', () => {
    assert.equal(judge(compare(expectation, {}, { a: 'no', b: 'no' })), 'not possible here')
    assert.equal(judge(compare(undefined, {})), 'broken')
  })

  it('compares kernel versions as numbers', () => {
    assert.equal(isOlder('6.9.1', '6.13'), true)
    assert.equal(isOlder('6.18.44-fc', '6.8'), false)
    assert.equal(isOlder('5.15.0', '6.0'), true)
    const list = [
      { since: '6.8', values: { a: 'new' }, source: '' },
      { before: '6.8', values: { a: 'old' }, source: '' },
    ]
    assert.equal(expectationFor(list, '6.18.44')?.values['a'], 'new')
    assert.equal(expectationFor(list, '6.1.0')?.values['a'], 'old')
  })

  it('supports ranges, choices and lists', () => {
    assert.equal(satisfies(atLeast(3), 2), false)
    assert.equal(satisfies(atMost(3), 3), true)
    assert.equal(satisfies(between(1, 2), 'EPERM'), false)
    assert.equal(satisfies(oneOf('EPERM', ['EAGAIN', 1]), ['EAGAIN', 1]), true)
    assert.equal(satisfies(['EAGAIN', 1], ['EAGAIN', 2]), false)
    assert.equal(satisfies(anything(), 5), true)
  })
})

describe('experiment()', () => {
  const valid = {
    id: 'mine',
    tags: [],
    question: '?',
    method: '.',
    expected: [],
    run: () => ({ a: 1 }),
  }

  it('refuses a misspelt field', () => {
    assert.throws(() => experiment({ ...valid, need: {} } as never), /unknown field "need"/)
  })

  it('refuses an id that is not a word', () => {
    assert.throws(() => experiment({ ...valid, id: 'My Experiment' }), /must be like/)
  })
})
