/** Runs scripts/build-addon.mjs in a folder of its own, with a node-gyp that compiles nothing. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cleanups } from '../support/cleanup.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const outputs = ['postcopy.node', 'vcpu.node', 'lab.node', 'floor']

/** Records its command; creates the files that node-gyp would create. */
const fakeNodeGyp = `#!/bin/sh
echo "$1" >> commands
if [ "$1" = rebuild ]; then
  rm -rf build
  mkdir -p build/Release
  : > build/Makefile
elif [ ! -e build/Makefile ]; then
  exit 1
fi
if [ -e broken ]; then exit 1; fi
# make does not touch outputs that do not depend on the changed source.
for name in ${outputs.join(' ')}; do
  if [ $name = postcopy.node ] || [ ! -e build/Release/$name ]; then : > build/Release/$name; fi
done
`

/** Stands in for the compiler and the programs that it needs, whose checks take long. */
const present = '#!/bin/sh\n'

/** A clone with built addons. */
class Clone {
  folder = mkdtempSync(join(tmpdir(), 'postcopy-clone-'))

  constructor() {
    cleanups.add(() => {
      rmSync(this.folder, { recursive: true, force: true })
    })
    for (const name of ['native', 'binding.gyp', 'scripts']) {
      cpSync(join(root, name), join(this.folder, name), { recursive: true })
    }
    const programs = join(this.folder, 'node_modules/.bin')
    mkdirSync(programs, { recursive: true })
    writeFileSync(join(programs, 'node-gyp'), fakeNodeGyp, { mode: 0o755 })
    for (const name of ['c++', 'make', 'python3']) {
      writeFileSync(join(programs, name), present, { mode: 0o755 })
    }
    assert.deepEqual(this.build(), ['rebuild'], 'a new clone')
  }

  /** Runs the script; returns the commands that node-gyp was called with. */
  build(status = 0): string[] {
    const log = join(this.folder, 'commands')
    writeFileSync(log, '')
    const script = join(this.folder, 'scripts/build-addon.mjs')
    const path = `${join(this.folder, 'node_modules/.bin')}:${process.env['PATH'] ?? ''}`
    const env = { ...process.env, PATH: path, CXX: 'c++' }
    const { status: found, stderr } = spawnSync(process.execPath, [script], {
      encoding: 'utf8',
      env,
    })
    assert.equal(found, status, stderr)
    return readFileSync(log, 'utf8').split('\n').filter(Boolean)
  }

  /** Makes a source newer than the built files. */
  change(laterMs = 60_000): void {
    const later = new Date(Date.now() + laterMs)
    utimesSync(join(this.folder, 'native/addon/addon.cc'), later, later)
  }

  moveTo(folder: string): void {
    renameSync(this.folder, folder)
    this.folder = folder
  }
}

describe('the build of the addons', () => {
  it('does nothing if nothing has changed', () => {
    assert.deepEqual(new Clone().build(), [])
  })

  it('compiles changed files without configuring again', () => {
    const clone = new Clone()
    clone.change()
    assert.deepEqual(clone.build(), ['build'])
  })

  it('does nothing after a build in which some outputs did not change', () => {
    const clone = new Clone()
    clone.change()
    assert.deepEqual(clone.build(), ['build'])
    assert.deepEqual(clone.build(), [])
    clone.change(120_000)
    assert.deepEqual(clone.build(), ['build'], 'a later change is seen')
  })

  it('builds again after a build that failed', () => {
    const clone = new Clone()
    clone.change()
    writeFileSync(join(clone.folder, 'broken'), '')
    assert.deepEqual(clone.build(1), ['build'])
    assert.deepEqual(clone.build(1), ['build'])
  })

  it('configures again in a clone that was moved', () => {
    const clone = new Clone()
    clone.moveTo(`${clone.folder}-moved`)
    clone.change()
    assert.deepEqual(clone.build(), ['rebuild'])
    clone.change(120_000)
    assert.deepEqual(clone.build(), ['build'])
  })

  it('configures again in a copy of a clone', () => {
    const clone = new Clone()
    const copy = `${clone.folder}-copy`
    cpSync(clone.folder, copy, { recursive: true, preserveTimestamps: true })
    rmSync(clone.folder, { recursive: true })
    clone.folder = copy
    clone.change()
    assert.deepEqual(clone.build(), ['rebuild'])
  })

  it('configures again for another Node', () => {
    const clone = new Clone()
    const stamp = join(clone.folder, 'build/configured-for')
    writeFileSync(stamp, readFileSync(stamp, 'utf8').replace(process.version, 'v20.0.0'))
    clone.change()
    assert.deepEqual(clone.build(), ['rebuild'])
  })

  it('keeps a configuration whose sources do not compile', () => {
    const clone = new Clone()
    rmSync(join(clone.folder, 'build'), { recursive: true })
    const broken = join(clone.folder, 'broken')
    writeFileSync(broken, '')
    assert.deepEqual(clone.build(1), ['rebuild'])
    rmSync(broken)
    assert.deepEqual(clone.build(), ['build'])
  })
})
