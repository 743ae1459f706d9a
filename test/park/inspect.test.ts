import assert from 'node:assert/strict'
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describeDevices, listDevices } from '../../src/park/device-list.js'
import { type StreamReport, inspectParked, inspectStream } from '../../src/park/index.js'
import { runInside } from '../cli/inside.js'
import { runCli, temporaryFolder } from '../cli/support.js'
import { golden } from '../stream/golden.js'
import * as short from '../stream/short-stream.js'
import { parkBytes } from './support.js'

async function save(bytes: Uint8Array): Promise<string> {
  const file = join(await temporaryFolder(), 'saved')
  writeFileSync(file, bytes)
  return file
}

async function inspect(bytes: Uint8Array): Promise<StreamReport> {
  return inspectStream(await save(bytes))
}

describe('inspecting a stream', () => {
  it('counts sections, pages by kind, and the devices with their sizes', async () => {
    const report = await inspect(golden('precopy'))
    assert.equal(report.way, 'precopy')
    assert.equal(report.machineType, 'pc-i440fx-7.2')
    assert.equal(report.lengthBytes, golden('precopy').length)
    assert.deepEqual(report.ramSections, { start: 1, part: 1, end: 1 })
    const [ram] = report.blocks
    assert.deepEqual([ram?.name, ram?.normalPages, ram?.zeroPages], ['pc.ram', 16, 4080])
    const sections = report.devices?.sections ?? []
    assert.deepEqual(
      [sections.length, sections[0]?.idstr, sections.at(-1)?.idstr],
      [30, 'timer', 'globalstate'],
    )
    // Headers and footers are between the sections: the rest must be accounted for to the byte.
    const bytes = sections.reduce((sum, { idstr, lengthBytes }) => {
      return sum + 1 + 4 + 1 + idstr.length + 8 + lengthBytes + 5
    }, 0)
    assert.equal(bytes, report.devices?.lengthBytes)
    assert.deepEqual(report.oddities, [])
    assert.equal(report.error, undefined)
  })

  it('counts commands and finds the pings of a package', async () => {
    const report = await inspect(golden('preempt-main'))
    assert.equal(report.way, 'postcopy')
    assert.equal(report.commands['PACKAGED'], 1)
    assert.equal(report.commands['POSTCOPY_RAM_DISCARD'], 6)
    assert.deepEqual(report.packagePings, [3])
    assert.equal(report.blocks[1]?.discardedBytes, 131072)
    assert.equal(report.devices?.sections, undefined)
  })

  it('reports the offset of a premature end, and what was decoded', async () => {
    const report = await inspect(golden('precopy').subarray(0, 60_000))
    assert.equal(report.way, 'unfinished')
    assert.equal(report.error?.code, 'ERR_STREAM_TRUNCATED')
    assert(report.blocks.length > 0)
    assert.match(report.oddities.join(), /ended inside/)
  })

  it('reports that a description does not match its devices', async () => {
    const bytes = Buffer.from(golden('precopy'))
    const at = bytes.indexOf('"size": 8')
    assert(at > 0)
    bytes[at + 8] = 0x39
    const report = await inspect(bytes)
    assert.match(report.oddities.join(), /does not match the device state/)
    assert.equal(report.devices?.sections, undefined)
  })

  it('uses memory that does not grow with the stream', async () => {
    // The same PART repeated, 210 MiB in all.
    const file = join(await temporaryFolder(), 'long')
    for (const piece of pieces(golden('precopy'))) appendFileSync(file, piece)
    // What V8 accounts for, garbage included: a buffer per piece would show up here for a while.
    let most = 0
    const look = setInterval(() => (most = Math.max(most, process.memoryUsage().arrayBuffers)), 1)
    const before = process.memoryUsage().arrayBuffers
    const report = await inspectStream(file).finally(() => clearInterval(look))
    assert.equal(report.way, 'precopy')
    assert(report.lengthBytes > 200 * 2 ** 20)
    assert((report.blocks[0]?.normalPages ?? 0) > 20_000)
    assert(most > 0)
    assert(most - before < 16 * 2 ** 20, `${most - before} bytes`)
  })
})

/** A stream whose RAM is sent many times over. */
function* pieces(bytes: Uint8Array): Generator<Uint8Array> {
  const start = Buffer.from(bytes).indexOf(Buffer.from('0200000002', 'hex'))
  const end = Buffer.from(bytes).indexOf(Buffer.from('0300000002', 'hex'))
  assert(start > 0 && end > start)
  yield bytes.subarray(0, start)
  const part = bytes.subarray(start, end)
  for (let written = 0; written < 210 * 2 ** 20; written += part.length) yield part
  yield bytes.subarray(end)
}

describe('listing devices without a description', () => {
  it('finds the same devices as the description', async () => {
    const { directory } = await parkBytes(golden('precopy'))
    const sections = readFileSync(join(directory, 'devices'))
    const described = inspectParked(directory).devices ?? []
    assert.equal(described.length, 30)
    assert.deepEqual(
      listDevices(sections),
      described.map(({ idstr, instanceId }) => ({ idstr, instanceId })),
    )
    const text = describeDevices(listDevices(sections))
    assert.match(text, /^-smp 1 and the PCI devices .*piix4_pm at 00:01\.3/)
  })

  it('ends at a byte that begins no section', () => {
    assert.deepEqual(listDevices(new Uint8Array()), [])
    assert.deepEqual(listDevices(Uint8Array.of(4, 0, 0, 0, 1, 200, 0x61)), [])
    assert.equal(describeDevices([]), '')
    const trap = listDevices(short.devices()).map(({ idstr }) => idstr)
    assert.deepEqual(trap, ['0000:00:01.3/trap', 'globalstate'])
  })
})

describe('inspecting a parked VM', () => {
  it('reports its content and its size on disk', async () => {
    const { directory } = await parkBytes(golden('precopy'))
    const report = inspectParked(directory, { verify: true })
    assert.equal(report.error, undefined)
    assert.equal(report.devices?.length, 30)
    assert.equal(report.diskBytes.get('pc.ram'), 16 * 4096)
    assert.deepEqual(report.oddities, [])
  })

  it('reports damage and an incomplete VM without failing', async () => {
    const { directory } = await parkBytes(golden('precopy'))
    writeFileSync(join(directory, 'devices'), 'nothing')
    assert.equal(inspectParked(directory).error?.code, 'ERR_PARKED_DAMAGED')
    const broken = await parkBytes(golden('postcopy-source'))
    const report = inspectParked(`${broken.directory}.incomplete`)
    assert.equal(report.error?.code, 'ERR_PARKED_INCOMPLETE')
    assert.equal(report.manifest.state, 'incomplete')
  })
})

describe('postcopy park, resume and inspect', () => {
  it('park a saved stream and inspect it, as text and as JSON', async () => {
    const file = await save(golden('precopy'))
    const directory = `${file}.vm`
    const park = await runCli(['park', '--from', file, '--to', directory])
    assert.equal(park.status, 0, park.stderr)
    assert.match(park.stdout, /^parked in .*: a pc-i440fx-7\.2 with 16\.3 MiB of RAM/)
    for (const [path, kind] of [
      [file, 'stream'],
      [directory, 'parked-vm'],
    ] as const) {
      const words = await runInside(['inspect', path])
      assert.equal(words.status, 0, words.stderr)
      assert.match(words.stdout, /pc\.ram .*[\s\S]*globalstate/)
      const json = await runInside(['inspect', path, '--json', '--verify'])
      assert.equal((JSON.parse(json.stdout) as { kind: string }).kind, kind)
    }
  })

  const refused: readonly (readonly [readonly string[], RegExp])[] = [
    [['park', '--to', 'x'], /either a URI to listen on, or --from/],
    [['park', 'tcp:127.0.0.1:0'], /--to DIR is missing/],
    [['park', '--recover', 'x.incomplete'], /--recover takes a URI/],
    [['park', 'unix:/nowhere/x', '--recover', '/nowhere'], /is not a \.incomplete directory/],
    [['park', 'exec:cat', '--to', 'x'], /not a migration URI/],
    [['resume', 'x'], /missing required argument 'uri'/],
    [['resume', '/nowhere', 'unix:/nowhere'], /is not a parked VM: .* \[ENOENT\]/],
    [['resume', 'x', 'unix:y', '--on-demand=soon'], /milliseconds, or never/],
    [['resume', 'x', 'unix:y', '--page-size', '2M'], /as in pc\.ram=2M/],
    [['inspect', '/nowhere'], /ENOENT/],
  ]
  for (const [args, pattern] of refused) {
    it(`refuse ${args.join(' ')}`, async () => {
      const { status, stderr } = await runInside(args)
      assert.equal(status, 1)
      assert.match(stderr, pattern)
      assert.match(stderr, /^postcopy: [^\n]*\n$/)
    })
  }

  it('exit with status 1 for an invalid stream', async () => {
    const file = await save(Buffer.from('hello, world'))
    const { status, stdout } = await runInside(['inspect', file])
    assert.equal(status, 1)
    assert.match(stdout, /odd: 0x68656c6c does not begin a migration stream/)
    const park = await runInside(['park', '--from', file, '--to', `${file}.vm`])
    assert.equal(park.status, 1)
    assert.match(park.stderr, /\[ERR_STREAM_MAGIC\]/)
  })
})
