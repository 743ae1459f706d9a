import assert from 'node:assert/strict'
import { loadCatalogue } from '../../src/lab/catalogue.js'
import type { Described } from '../../src/lab/describe.js'

/** The kernel's own tests of userfaultfd, tools/testing/selftests/mm/uffd-unit-tests.c. */
const selftests = [
  'register-ioctls',
  'zeropage',
  'move',
  'move-pmd',
  'move-pmd-split',
  'wp-fork',
  'wp-fork-with-event',
  'wp-fork-pin',
  'wp-fork-pin-with-event',
  'wp-unpopulated',
  'minor',
  'minor-wp',
  'minor-collapse',
  'sigbus',
  'sigbus-wp',
  'events',
  'events-wp',
  'poison',
  'mmap-changing',
]

describe('the catalogue of the lab', () => {
  let catalogue: Described[]

  before(async () => {
    catalogue = await loadCatalogue()
  })

  it('has no id that is also a tag', () => {
    const ids = catalogue.map(({ id }) => id)
    assert.equal(new Set(ids).size, ids.length)
    const tags = new Set(catalogue.flatMap((each) => each.tags))
    assert.deepEqual(
      ids.filter((id) => tags.has(id)),
      [],
    )
  })

  it('has a question, a method and a source for every expectation', () => {
    for (const { id, question, method, expected, tags } of catalogue) {
      assert.match(question, /\?$/, id)
      assert.ok(method.length > 10, id)
      assert.ok(expected.length > 0 && tags.length > 0, id)
      for (const { source } of expected) assert.ok(source.length > 5, id)
    }
  })

  it("has all of the kernel's own tests", () => {
    const mirrored = new Set(
      catalogue.flatMap(({ mirrors }) =>
        mirrors.map((name) => name.replace(/^uffd-unit-tests: | on .*$/g, '')),
      ),
    )
    assert.deepEqual(
      selftests.filter((name) => !mirrored.has(name)),
      [],
    )
  })
})
