/**
 * How much memory an untrusted stream or directory can make `inspect` use, and what
 * it can make it print.
 */
import assert from 'node:assert/strict'
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { inspectParked, inspectStream } from '../../src/park/index.js'
import * as stream from '../../src/stream/index.js'
import { runInside } from '../cli/inside.js'
import { temporaryFolder } from '../cli/support.js'
import { golden } from '../stream/golden.js'
import * as short from '../stream/short-stream.js'
import { runNode } from '../support/node-script.js'
import { parkBytes } from './support.js'

const INDEX = new URL('../../src/park/index.js', import.meta.url).href
const MIB = 2 ** 20

async function save(bytes: Uint8Array): Promise<string> {
  const file = join(await temporaryFolder(), 'saved')
  writeFileSync(file, bytes)
  return file
}

/** The peak memory of a process that inspects `path`, in bytes, beyond its memory at the start. */
function inspectingTook(path: string, what: 'inspectStream' | 'inspectParked'): number {
  const { stdout } = runNode(`
    import { ${what} } from ${JSON.stringify(INDEX)}
    import { readFileSync } from 'node:fs'
    const most = () => Number(/VmHWM:\\s+(\\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))[1])
    const before = most()
    await ${what}(${JSON.stringify(path)})
    console.log(most() - before)`)
  return Number(stdout) * 1024
}

/** A precopy stream of one block whose description is `text`. */
function described(text: string): Uint8Array {
  return short.precopyStream(0, text)
}

describe('the bounds of inspect', () => {
  it('names a few unknown pings and counts the rest', async () => {
    const bytes = stream.encode((out) => {
      short.prologue(out)
      for (let value = 1000; value < 101_000; value += 1) stream.encodePing(out, value)
    })
    const report = await inspectStream(await save(bytes))
    assert.equal(report.commands['PING'], 100_001)
    assert(report.oddities.length < 20, `${report.oddities.length} oddities`)
    assert.match(report.oddities.join('\n'), /a ping with the value 1000$/m)
    assert.match(report.oddities.join('\n'), /^99992 more pings with unknown values$/m)
  })

  it('rejects a package that consists of pings', async () => {
    const pings = Array.from({ length: 65 }, (_, index) => index)
    const bytes = stream.encode((out) => {
      short.prologue(out)
      stream.encodePackaged(out, stream.encodePackage(short.devices(), pings))
    })
    const report = await inspectStream(await save(bytes))
    assert.equal(report.error?.code, 'ERR_STREAM_LIMIT')
    assert.match(report.error.message, /a package with more than 64 pings/)
  })

  it('reads a long description in memory that does not grow with its content', async () => {
    const file = await save(described(`{"devices":[${'{},'.repeat(5 * MIB)}{}]}`))
    const took = inspectingTook(file, 'inspectStream')
    assert(took < 200 * MIB, `${took / MIB} MiB`)
  })

  it('rejects a description that is nested too deeply, or too long', async () => {
    const nested = `{"a":${'['.repeat(1000)}${']'.repeat(1000)}}`
    const deep = await inspectStream(await save(described(nested)))
    assert.equal(deep.error?.code, 'ERR_STREAM_TRUNCATED')
    const long = await inspectStream(await save(described(`{"a":"${'a'.repeat(16 * MIB)}"}`)))
    assert.equal(long.error?.code, 'ERR_STREAM_LIMIT')
    assert.match(long.error.message, /a description of 16777224 bytes, the limit is 16777216/)
  })

  it('compares the size of a file with the manifest before it reads it', async () => {
    const { directory } = await parkBytes(golden('precopy'))
    truncateSync(join(directory, 'devices'), 1_900_000_000)
    const took = inspectingTook(directory, 'inspectParked')
    assert(took < 200 * MIB, `${took / MIB} MiB`)
    assert.equal(inspectParked(directory).error?.code, 'ERR_PARKED_DAMAGED')
  })

  it('does not parse a working set of millions of objects', async () => {
    const { directory } = await parkBytes(golden('precopy'))
    writeFileSync(join(directory, 'working-set'), `{"runs":[${'{},'.repeat(5 * MIB)}{}]}`)
    const took = inspectingTook(directory, 'inspectParked')
    assert(took < 200 * MIB, `${took / MIB} MiB`)
    const { oddities } = inspectParked(directory)
    assert.match(oddities.join(), /working-set has more than 524288 lists and objects/)
  })

  it('rejects a manifest of files above the length limit', async () => {
    const { directory } = await parkBytes(golden('precopy'))
    const path = join(directory, 'manifest.json')
    const manifest = readFileSync(path, 'utf8')
    const { devices } = JSON.parse(manifest) as { devices: { lengthBytes: number } }
    writeFileSync(path, manifest.replace(`${devices.lengthBytes}`, '1900000000'))
    truncateSync(join(directory, 'devices'), 1_900_000_000)
    assert.throws(() => inspectParked(directory), {
      code: 'ERR_PARKED_FORMAT',
      message: /devices: lengthBytes must be a count of at most 268435456, not 1900000000/,
    })
    truncateSync(path, 1_900_000_000)
    assert.throws(() => inspectParked(directory), { code: 'ERR_PARKED_FORMAT' })
    const { stderr } = await runInside(['inspect', directory])
    assert.match(stderr, /manifest\.json has 1900000000 bytes, the limit is 4194304/)
  })

  it('rejects a manifest with the same block, or the same file, twice', async () => {
    const { directory } = await parkBytes(golden('precopy'))
    const path = join(directory, 'manifest.json')
    const manifest = readFileSync(path, 'utf8')
    for (const [pattern, text] of [
      [/"ram-1"/, '"ram-0"'],
      [/"pc.bios"/, '"pc.ram"'],
    ] as const) {
      assert.match(manifest, pattern)
      writeFileSync(path, manifest.replace(pattern, text))
      assert.throws(() => inspectParked(directory), { code: 'ERR_PARKED_FORMAT' })
    }
  })
})

describe('inspecting RAM blocks with names of Object members', () => {
  const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty']

  it('counts their pages and reports their size on disk', async () => {
    const bytes = stream.encode((out) => {
      stream.encodeFileHeader(out)
      stream.encodeConfiguration(out, 'pc')
      const section = { id: short.RAM_ID, idstr: 'ram', instanceId: 0, version: 4 }
      stream.encodeSectionStart(out, section)
      const blocks = names.map((name) => ({ name, usedLengthBytes: 8192 }))
      stream.encodeRamBlockList(out, blocks)
      short.closeSection(out)
      stream.encodeSectionEnd(out, short.RAM_ID)
      for (const name of names) stream.encodeRamPage(out, name, 0, short.page)
      short.closeSection(out)
      out.bytes(short.devices())
      stream.encodeEndOfStream(out)
    })
    const file = await save(bytes)
    const report = await inspectStream(file)
    assert.deepEqual(
      report.blocks.map(({ name, normalPages }) => [name, normalPages]),
      names.map((name) => [name, 1]),
    )
    const { directory } = await parkBytes(bytes)
    const { diskBytes } = inspectParked(directory)
    assert.deepEqual(
      [...diskBytes],
      names.map((name) => [name, 4096]),
    )
    const words = await runInside(['inspect', directory])
    for (const name of names)
      assert.match(words.stdout, new RegExp(`${name} .* 4\\.00 KiB │$`, 'm'))
    const json = await runInside(['inspect', directory, '--json'])
    assert.match(json.stdout, /"diskBytes":\{"__proto__":4096,"constructor":4096/)
  })
})
