import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { Script } from 'node:vm'
import { Pack } from '../src/bundle-loader.js'
import type * as OutputModule from '../src/cli/output.js'
import type * as CommandLineModule from '../src/cli/run-command-line.js'
import { runInside } from './cli/inside.js'
import { temporaryFolder } from './cli/support.js'

const bundle = fileURLToPath(new URL('../bundle', import.meta.url))

function builtPack(program: string): Pack {
  const file = readdirSync(bundle).find(
    (name) => /-[0-9a-f]{12}\.js$/.test(name) && name.startsWith(program),
  )
  assert(file !== undefined, `no bundle of ${program}`)
  return new Pack(bundle, file)
}

/** Runs a command line from the bundle. @returns what it prints, and the modules that it evaluates */
async function runBundled(args: readonly string[]): Promise<{ text: string; evaluated: string[] }> {
  const pack = builtPack('cli-main')
  const { output } = pack.load('cli/output') as typeof OutputModule
  const { runCommandLine } = pack.load('cli/run-command-line') as typeof CommandLineModule
  let text = ''
  const stream = new Writable({
    decodeStrings: false,
    write(chunk: string, _encoding, done) {
      text += chunk
      done()
    },
  })
  output.redirect(stream, stream)
  await runCommandLine(args)
  return { text, evaluated: pack.evaluated }
}

const names = ['demo', 'guest', 'park', 'resume', 'inspect', 'doctor', 'lab']

describe('the bundled command', () => {
  for (const name of names) {
    it(`evaluates the modules of ${name} only for its help, and prints the same`, async () => {
      const { text, evaluated } = await runBundled([name, '--help'])
      const commands = evaluated.filter((module) =>
        names.some((other) => module === `cli/${other}`),
      )
      assert.deepEqual(commands, [`cli/${name}`])
      // The description of the options alone needs no connection, no worker and no addon.
      const heavy = evaluated.filter((module) =>
        /^(net\/tls|migration\/worker-thread|source\/source|park\/park|kernel\/load)$/.test(module),
      )
      assert.deepEqual(heavy, [])
      assert.equal(text, (await runInside([name, '--help'])).stdout)
    })
  }

  it('evaluates no command for its version', async () => {
    const { text, evaluated } = await runBundled(['--version'])
    assert.match(text, /^\d+\.\d+\.\d+\n$/)
    assert.deepEqual(
      evaluated.filter((module) => names.some((name) => module === `cli/${name}`)),
      [],
    )
  })

  it('lists all commands in the order of the unbundled one', async () => {
    const { text } = await runBundled(['--help'])
    assert.equal(text, (await runInside(['--help'])).stdout)
    for (const name of names) assert.match(text, new RegExp(`^  ${name} `, 'm'))
  })

  it('has a code cache that this V8 takes', () => {
    for (const program of ['cli-main', 'source-worker', 'destination-worker', 'park-worker']) {
      const pack = builtPack(program)
      assert.equal(pack.compile(readFileSync(pack.cachePath)).cachedDataRejected, false, program)
    }
  })
})

describe('a pack', () => {
  const script = (value: number): string =>
    `({ one: (module, require) => { module.exports = { get two() { return require('two') } } }, ` +
    `two: (module) => { module.exports = { value: ${value} } } })`

  async function packOf(text: string): Promise<{ pack: Pack; cache: (bytes: Buffer) => void }> {
    const folder = await temporaryFolder()
    writeFileSync(join(folder, 'pack.js'), text)
    const pack = new Pack(folder, 'pack.js')
    return {
      pack,
      cache: (bytes) => {
        mkdirSync(dirname(pack.cachePath), { recursive: true })
        writeFileSync(pack.cachePath, bytes)
      },
    }
  }

  it('evaluates a module when it is first used', async () => {
    const { pack } = await packOf(script(1))
    const one = pack.load('one') as { two: unknown }
    assert.deepEqual(pack.evaluated, ['one'])
    assert.deepEqual(one.two, { value: 1 })
    assert.equal(one.two, pack.load('two'))
    assert.deepEqual(pack.evaluated, ['one', 'two'])
  })

  it('loads modules of Node', async () => {
    const { pack } = await packOf(script(1))
    assert.equal(pack.load('node:path'), await import('node:path').then((path) => path.default))
  })

  it('works without a cache', async () => {
    const { pack } = await packOf(script(2))
    assert(!existsSync(pack.cachePath))
    assert.deepEqual(pack.load('two'), { value: 2 })
  })

  const stale: readonly (readonly [string, () => Buffer])[] = [
    ['empty', () => Buffer.alloc(0)],
    ['not one', () => Buffer.from('garbage'.repeat(100))],
    ['of a longer script', () => new Script(`${script(7)} `).createCachedData()],
    ['cut off', () => new Script(script(3)).createCachedData().subarray(0, 100)],
    ['of another version of V8', () => changed(new Script(script(3)).createCachedData(), 4)],
    ['of other flags', () => changed(new Script(script(3)).createCachedData(), 12)],
  ]
  for (const [what, bytes] of stale) {
    it(`works with a cache that is ${what}`, async () => {
      const { pack, cache } = await packOf(script(3))
      cache(bytes())
      assert.deepEqual(pack.load('two'), { value: 3 })
    })
  }
})

/** Changes a number of the header of V8's cache. */
function changed(cache: Buffer, offset: number): Buffer {
  cache.writeUInt32LE(cache.readUInt32LE(offset) ^ 1, offset)
  return cache
}
