/** The rooms of `src/`: the lint rules find forbidden imports, and the docs name every room. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cleanups } from '../support/cleanup.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))

/** The violations that the rules report for a project with these files. */
function violations(files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'postcopy-rooms-'))
  cleanups.add(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  cpSync(join(root, 'tsconfig.json'), join(folder, 'tsconfig.json'))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [
      join(root, 'node_modules/dependency-cruiser/bin/dependency-cruise.mjs'),
      ...['--config', join(root, 'scripts/import-rules.mjs'), 'src'],
    ],
    { cwd: folder, encoding: 'utf8' },
  )
  assert.match(stdout, /modules/, stderr)
  return stdout
}

describe('the rules about rooms', () => {
  it('report every kind of forbidden import', () => {
    const found = violations({
      'src/errors.ts': "import { a } from './ram/index.js'\nexport const error = a",
      'src/ram/index.ts': "export { a } from './a.js'",
      'src/ram/a.ts': "import type { N } from '../net/index.js'\nexport const a: N = 1",
      'src/net/index.ts': "export type { N } from './n.js'",
      'src/net/n.ts': "import type { M } from './m.js'\nexport type N = M | number",
      'src/net/m.ts': "import type { N } from './n.js'\nexport type M = N[]",
      'src/stream/index.ts': "import { k } from '../kernel/index.js'\nexport const s = k",
      'src/kernel/index.ts': 'export const k = 1',
      'src/source/index.ts': "import { a } from '../ram/a.js'\nexport const b = a",
      'src/attic/index.ts': 'export const c = 1',
      'src/index.ts': "export { c } from './attic/index.js'\nexport { d } from './none.js'",
    })
    const lines = found.split('\n').map((line) => line.trim())
    for (const expected of [
      'error leaves: src/errors.ts → src/ram/index.ts',
      'error floor-of-ram: src/ram/a.ts → src/net/index.ts',
      'error circle: src/net/m.ts →',
      'error floor-of-stream: src/stream/index.ts → src/kernel/index.ts',
      'error past-the-index: src/source/index.ts → src/ram/a.ts',
      'error unknown-room: src/index.ts → src/attic/index.ts',
      'error unresolved: src/index.ts → ./none.js',
    ]) {
      assert(lines.includes(expected), `${expected}\n--- in\n${found}`)
    }
  })

  it('accept allowed imports', () => {
    const found = violations({
      'src/errors.ts': 'export const e = 1',
      'src/kernel/index.ts': "export { e as k } from '../errors.js'",
      'src/kernel/internal.ts': 'export const i = 1',
      'src/lab/page.ts': 'export const page = 1',
      'src/lab/index.ts': "export { k } from '../kernel/index.js'",
      'src/cli/index.ts': "import { i } from '../kernel/internal.js'\nexport const load = async () => [i, await import('../lab/page.js')]",
    })
    assert.match(found, /no dependency violations/)
  })
})

describe('the table of rooms in docs/architecture.md', () => {
  it('lists each room on the floor that the rules give it', async () => {
    const { floors } = (await import(join(root, 'scripts/import-rules.mjs'))) as {
      floors: readonly (readonly string[])[]
    }
    const text = readFileSync(join(root, 'docs/architecture.md'), 'utf8')
    const documented: string[][] = []
    for (const [, floor, rooms = ''] of text.matchAll(/^\| (\d+) +\| ([^|]+)\|/gm)) {
      const names = [...rooms.matchAll(/`src\/(\w+)\/`/g)].map(([, name]) => name ?? '')
      if (names.length > 0) (documented[Number(floor) - 1] ??= []).push(...names)
    }
    const sorted = (lists: readonly (readonly string[])[]) => lists.map((rooms) => [...rooms].sort())
    assert.deepEqual(sorted(documented), sorted(floors))
  })
})
