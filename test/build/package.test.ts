/** What npm packs, and the message of an installed package whose addon is missing. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cleanups } from '../support/cleanup.js'
import { runNode } from '../support/node-script.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'postcopy-package-'))
  cleanups.add(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  return folder
}

interface Packed {
  files: { path: string }[]
}

describe('npm pack', () => {
  it('builds a clone that was not built, so that its package has dist', () => {
    const clone = temporaryFolder()
    cpSync(join(root, 'package.json'), join(clone, 'package.json'))
    mkdirSync(join(clone, 'scripts'))
    // Replaces the build, which takes too long here: makes dist from src.
    writeFileSync(
      join(clone, 'scripts/prepare.mjs'),
      `import { cpSync } from 'node:fs'
       cpSync('src', 'dist/src', { recursive: true })`,
    )
    mkdirSync(join(clone, 'src/cli'), { recursive: true })
    writeFileSync(join(clone, 'src/index.js'), '')
    writeFileSync(join(clone, 'src/cli/main.js'), '')
    const output = execFileSync('npm', ['pack', '--dry-run', '--json'], {
      cwd: clone,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, npm_config_cache: join(clone, '.npm') },
    })
    const [packed] = JSON.parse(output.slice(output.indexOf('[\n'))) as Packed[]
    const paths = packed?.files.map(({ path }) => path) ?? []
    assert(paths.includes('dist/src/index.js'), paths.join(' '))
    assert(paths.includes('dist/src/cli/main.js'), paths.join(' '))
  })
})

describe('an addon that was not built', () => {
  it('is reported by an installed package, with a script that is in the package', () => {
    const installed = join(temporaryFolder(), 'node_modules/postcopy')
    cpSync(join(root, 'dist/src'), join(installed, 'dist/src'), { recursive: true })
    cpSync(join(root, 'package.json'), join(installed, 'package.json'))
    const said = messageOf(installed)
    assert(said.includes(`${installed}/build/Release/postcopy.node does not exist`), said)
    const [, script = '', folder = ''] = /run "npm run (\w+)" in (\S+)/.exec(said) ?? []
    assert.equal(join(folder, '.'), join(installed, '.'))
    const { scripts, files } = JSON.parse(
      readFileSync(join(installed, 'package.json'), 'utf8'),
    ) as { scripts: Record<string, string>; files: string[] }
    const run = scripts[script]?.split(' && ').map((command) => command.replace(/^node /, '')) ?? []
    assert(run.length > 0)
    for (const file of run) assert(files.includes(file), `${script} runs ${file}, which is missing`)
  })

  it('is reported by a clone, with the build command of a clone', () => {
    const clone = temporaryFolder()
    cpSync(join(root, 'dist/src'), join(clone, 'dist/src'), { recursive: true })
    cpSync(join(root, 'package.json'), join(clone, 'package.json'))
    cpSync(join(root, 'scripts'), join(clone, 'scripts'), { recursive: true })
    const said = messageOf(clone)
    assert.match(said, /^ERR_ADDON_MISSING .*: run "npm run build" in /)
  })
})

/** The message of the package in a folder when it needs its addon. */
function messageOf(folder: string): string {
  const kernel = join(folder, 'dist/src/kernel/index.js')
  assert(existsSync(kernel))
  const { stdout } = runNode(
    `import { MemoryRegion } from ${JSON.stringify(kernel)}
     try { MemoryRegion.create({ kind: 'anon', lengthBytes: 4096 }) }
     catch (error) { console.log(error.code, error.message) }`,
  )
  return stdout.trim()
}
