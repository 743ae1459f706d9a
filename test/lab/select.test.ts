import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadCatalogue } from '../../src/lab/catalogue.js'
import { runExperiments } from '../../src/lab/runner.js'
import { suggestWord, select } from '../../src/lab/select.js'
import { cleanups } from '../support/cleanup.js'

function file(name: string, source: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'postcopy-test-'))
  cleanups.add(() => rmSync(folder, { recursive: true }))
  const path = join(folder, name)
  writeFileSync(path, source)
  return path
}

const body = `
  id: 'mine', tags: [], question: '?', method: '.', needs: {},
  expected: { values: { answer: 42 }, source: 'me' },`

describe('the choice of experiments', () => {
  it('takes ids and tags, each experiment once', async () => {
    const catalogue = await loadCatalogue()
    const { experiments } = await select(catalogue, ['copy-partial', 'fill', 'copy-partial'])
    const ids = experiments.map(({ id }) => id)
    assert.equal(ids.filter((id) => id === 'copy-partial').length, 1)
    assert.ok(ids.includes('copy-over-markers'))
  })

  it('suggests the nearest id or tag', async () => {
    const catalogue = await loadCatalogue()
    await assert.rejects(select(catalogue, ['copy-parital']), {
      code: 'ERR_LAB_UNKNOWN',
      message: /did you mean "copy-partial"\?/,
    })
    await assert.rejects(select(catalogue, ['openning']), /did you mean "opening"\?/)
    assert.equal(suggestWord('xyzzy', ['copy-partial']), undefined)
  })

  it('refuses a missing file', async () => {
    await assert.rejects(select([], ['./no-such.js']), { code: 'ERR_LAB_UNKNOWN' })
  })

  it('runs an experiment of a JavaScript file anywhere', async () => {
    const path = file(
      'mine.mjs',
      `import { experiment } from 'postcopy/lab'
       export const mine = experiment({ ${body} run: (lab) => ({ answer: 42 }) })`,
    )
    const { experiments } = await select([], [path])
    const [row] = await runExperiments(experiments)
    assert.equal(row?.verdict, 'as expected', row?.reason)
  })

  it('runs an experiment of a TypeScript file', async () => {
    const path = file(
      'mine.ts',
      `import { experiment, type Lab } from 'postcopy/lab'
       const answer: number = 42
       export const mine = experiment({ ${body} run: (lab: Lab) => ({ answer }) })`,
    )
    const { experiments } = await select([], [path])
    const [row] = await runExperiments(experiments)
    assert.equal(row?.verdict, 'as expected', row?.reason)
  })

  const broken: readonly [string, string, RegExp][] = [
    ['throws', 'throw new Error("at once")', /threw when it was loaded: Error: at once/],
    ['exits', 'process.exit(3)', /ended with status 3/],
    ['is not JavaScript', 'export const = 5', /SyntaxError/],
    ['exports nothing', 'export const five = 5', /exports no experiment/],
  ]
  for (const [what, source, reason] of broken) {
    it(`gives a row for a file that ${what}`, async () => {
      const { experiments, broken: rows } = await select([], [file('mine.mjs', source)])
      assert.deepEqual(experiments, [])
      assert.equal(rows[0]?.verdict, 'broken')
      assert.match(rows[0].reason ?? '', reason)
    })
  }
})
