/** docs/conformance.md names tests; each of them must exist. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { relative } from 'node:path'

const root = new URL('../../', import.meta.url)

interface Row {
  readonly file: string
  readonly title: string
}

/** The table rows that name a test, in the two cells after the behaviour. */
function readRows(): Row[] {
  const text = readFileSync(new URL('docs/conformance.md', root), 'utf8')
  return text.split('\n').flatMap((line) => {
    const [, , file = '', title = ''] = line.split('|').map((cell) => cell.trim())
    return file.startsWith('test/') ? [{ file, title }] : []
  })
}

/** `*` in a title matches any text. */
function patternOf(title: string): RegExp {
  const parts = title.split('*').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^${parts.join('.*')}$`)
}

describe('docs/conformance.md', () => {
  it('names files that exist', () => {
    const rows = readRows()
    assert(rows.length > 50, 'a table was read')
    for (const { file } of rows) assert(existsSync(new URL(file, root)), file)
  })

  it('names tests that exist', function () {
    let suite: Mocha.Suite | undefined = this.test?.parent
    while (suite?.parent !== undefined) suite = suite.parent
    const titles = new Map<string, string[]>()
    suite?.eachTest((test) => {
      const compiled = relative(new URL('dist', root).pathname, test.file ?? '')
      const file = compiled.replace(/\.js$/, '.ts')
      titles.set(file, [...(titles.get(file) ?? []), test.fullTitle()])
    })
    assert(titles.has('test/conformance.test.ts'), 'titles are found by file')
    for (const { file, title } of readRows()) {
      const known = titles.get(file)
      // A run of single files has loaded only the tests of those files.
      if (known === undefined) continue
      const pattern = patternOf(title)
      assert(
        known.some((one) => pattern.test(one)),
        `${file} has no test "${title}"`,
      )
    }
  })
})
