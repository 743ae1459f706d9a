/** Runs the commands in the documents on the lab and on tests, line by line. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Requirement, requires } from '../support/requires.js'

const here = dirname(fileURLToPath(import.meta.url))
const main = join(here, '../../bundle/cli/main.js')

interface Listing {
  language: string
  name: string
  body: string
}

function listingsOf(document: string): Listing[] {
  const text = readFileSync(join(here, '../../..', document), 'utf8')
  return [...text.matchAll(/^```(\w+) ?(\S*)\n([^]*?)^```$/gm)].map(
    ([, language = '', name = '', body = '']) => ({ language, name, body }),
  )
}

/** Commands, each with the output lines that the document shows after it. */
function commandsIn(body: string): { command: string; shown: string[] }[] {
  return body
    .split(/^\$ /m)
    .slice(1)
    .map((part) => {
      const [command = '', ...shown] = part.trim().split('\n')
      return { command, shown }
    })
}

interface Document {
  readonly path: string
  readonly needs: readonly Requirement[]
  /** Listings that the commands use. */
  readonly files: readonly string[]
}

const documents: readonly Document[] = [
  {
    path: 'docs/lab.md',
    needs: ['kernelFaults'],
    files: ['proc-mem.mjs', 'readers-cost.ts', 'kit.test.mjs'],
  },
  { path: 'docs/testing.md', needs: ['root', 'ip'], files: ['two-hosts.test.mjs'] },
]

for (const { path, needs, files } of documents)
  describe(path, () => {
    const listings = listingsOf(path)
    let folder = ''

    before(function () {
      requires(this, ...needs)
      // Inside the package, so that its name resolves as in a project that has installed it.
      folder = mkdtempSync(join(here, 'listings-'))
      for (const { name, body } of listings)
        if (name !== '') writeFileSync(join(folder, name), body)
    })

    after(() => {
      if (folder !== '') rmSync(folder, { recursive: true, force: true })
    })

    it('has listings of each kind', () => {
      assert.deepEqual(
        listings.flatMap(({ name }) => (name === '' ? [] : [name])),
        files,
      )
    })

    const commands = listings
      .filter(({ language }) => language === 'sh')
      .flatMap(({ body }) => commandsIn(body))

    for (const { command, shown } of commands) {
      it(`runs: ${command}`, () => {
        const real = command.replace(/^npx postcopy/, `${process.execPath} ${main}`)
        const { status, stdout, stderr } = spawnSync('sh', ['-c', real], {
          cwd: folder,
          encoding: 'utf8',
          timeout: 50_000,
        })
        assert.equal(status, 0, stdout + stderr)
        for (const line of shown) assert.ok(stderr.includes(line), `${line} is not in ${stderr}`)
      })
    }
  })
