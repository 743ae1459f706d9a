import assert from 'node:assert/strict'
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { checksumBlock } from '../../src/park/checksum.js'
import { Park, ParkedVm, readManifest } from '../../src/park/index.js'
import {
  encode,
  encodeConfiguration,
  encodeFileHeader,
  encodeSectionFull,
} from '../../src/stream/index.js'
import { golden } from '../stream/golden.js'
import { cleanups } from '../support/cleanup.js'
import { parkBytes, ramOf, settled } from './support.js'

function open(directory: string): ParkedVm {
  const vm = ParkedVm.open(directory, { verify: true })
  cleanups.add(() => vm.close())
  return vm
}

function nothingIsLeftOf(directory: string): void {
  const left = ['', '.partial', '.incomplete'].filter((end) => existsSync(directory + end))
  assert.deepEqual(left, [])
}

describe('parking a saved precopy', () => {
  it('keeps each RAM block in a file, bit for bit, with holes for zero pages', async () => {
    const bytes = golden('precopy')
    const { directory, park } = await parkBytes(bytes)
    assert.equal(park.state, 'completed')
    const blocks = park.manifest?.blocks ?? []
    const expected = ramOf(bytes)
    assert.deepEqual(
      blocks.map(({ name }) => name),
      [...expected.keys()],
    )
    for (const { name, file, dataPages } of blocks) {
      const path = join(directory, file)
      assert(readFileSync(path).equals(expected.get(name) ?? Buffer.alloc(0)), name)
      assert(statSync(path).blocks * 512 <= dataPages * 4096, `${name} has holes`)
    }
    assert.equal(blocks[0]?.dataPages, 16)
  })

  it('keeps devices and configuration unchanged, and names the machine', async () => {
    const bytes = golden('precopy')
    const { directory, park } = await parkBytes(bytes)
    const { manifest } = park
    assert.equal(manifest?.machineType, 'pc-i440fx-7.2')
    assert.equal(manifest.ramSectionId, 2)
    assert.equal(manifest.way, 'precopy')
    const devices = readFileSync(join(directory, 'devices'))
    assert(Buffer.from(bytes).includes(devices))
    assert.equal(devices[0], 0x04)
    const configuration = readFileSync(join(directory, 'configuration'))
    assert.equal(Buffer.from(bytes).indexOf(configuration), 8)
    assert.deepEqual(readManifest(directory), manifest)
  })

  it('is accessible only to its owner', async () => {
    const { directory } = await parkBytes(golden('precopy'))
    assert.equal(statSync(directory).mode & 0o777, 0o700)
    for (const name of readdirSync(directory)) {
      assert.equal(statSync(join(directory, name)).mode & 0o777, 0o600, name)
    }
  })

  it('accepts a stream without description', async () => {
    const bytes = Buffer.from(golden('precopy'))
    const { park: whole } = await parkBytes(bytes)
    const description = whole.manifest?.description?.lengthBytes ?? 0
    const { park } = await parkBytes(bytes.subarray(0, bytes.length - description - 5))
    assert.equal(park.state, 'completed')
    assert.deepEqual(park.manifest?.devices, whole.manifest?.devices)
    assert.equal(park.manifest?.description, undefined)
  })
})

describe('parking an incomplete VM', () => {
  const precopy = golden('precopy')
  const header = (name: string): Uint8Array =>
    encode((out) => {
      encodeFileHeader(out)
      encodeConfiguration(out, 'pc', [{ name: 'configuration/capabilities', capabilities: [name] }])
    })
  const cases: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['an empty file', new Uint8Array(), /ERR_CONNECTION_CLOSED/],
    ['something else', Buffer.from('#!/bin/sh\necho hello\n'), /ERR_STREAM_MAGIC/],
    ['another version', Buffer.from('5145564d00000002', 'hex'), /ERR_STREAM_VERSION/],
    ['one cut in its RAM', precopy.subarray(0, 50_000), /ERR_CONNECTION_CLOSED/],
    ['one cut in its devices', precopy.subarray(0, 130_000), /ERR_CONNECTION_CLOSED/],
    ['one of mapped-ram', header('mapped-ram'), /ERR_STREAM_CAPABILITY: .*mapped-ram/],
    [
      'one with shared memory',
      header('x-ignore-shared'),
      /ERR_STREAM_CAPABILITY: .*x-ignore-shared/,
    ],
    ['a device before RAM', earlySection(), /ERR_STREAM_SECTION/],
    ['the second half of a recovery', golden('recovered-source'), /ERR_STREAM_MAGIC/],
  ]
  function earlySection(): Uint8Array {
    return encode((out) => {
      encodeFileHeader(out)
      encodeConfiguration(out, 'pc')
      encodeSectionFull(out, { id: 9, idstr: 'virtio-mem-early', instanceId: 0, version: 1 })
    })
  }

  for (const [title, bytes, pattern] of cases) {
    it(`rejects ${title}, and leaves nothing`, async () => {
      const { directory, park } = await parkBytes(bytes)
      assert.equal(park.state, 'failed')
      assert.match(`${park.error?.code ?? ''}: ${park.error?.message ?? ''}`, pattern)
      nothingIsLeftOf(directory)
    })
  }

  it('keeps a postcopy that broke off, with the list of received pages', async () => {
    const { directory, park } = await parkBytes(golden('postcopy-source'))
    assert.equal(park.state, 'postcopy-paused')
    const left = `${directory}.incomplete`
    const manifest = readManifest(left)
    assert.equal(manifest.state, 'incomplete')
    assert.equal(manifest.way, 'postcopy')
    const ram = manifest.blocks[0]
    const received = readFileSync(join(left, ram?.receivedFile ?? ''))
    const pages = [...received.entries()].flatMap(([byte, bits]) =>
      [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => (bits >> bit) & 1).map((bit) => byte * 8 + bit),
    )
    const expected = ramOf(golden('postcopy-source')).get('pc.ram') ?? new Uint8Array()
    const sent = pages.filter((page) => expected[page * 4096] !== 0)
    // Requested pages were sent first, as the capture's notes say.
    assert(sent.includes(0x12) && sent.includes(0x15))
    const file = readFileSync(join(left, ram?.file ?? ''))
    assert(file.equals(expected))
    assert.throws(() => ParkedVm.open(left), { code: 'ERR_PARKED_INCOMPLETE' })
    assert(!existsSync(directory))
  })

  it('does not accept a postcopy as complete if its pages were sent on another channel', async () => {
    // Requested pages were sent on the preempt channel.
    const { park } = await parkBytes(golden('preempt-main'))
    assert.equal(park.state, 'postcopy-paused')
    assert.equal(park.error?.code, 'ERR_PEER_INCOMPLETE')
  })

  it('never changes an existing directory', async () => {
    const { folder, directory } = await parkBytes(golden('precopy'))
    const again = Park.fromFile({ file: join(folder, 'saved'), directory })
    await settled(again)
    assert.equal(again.error?.code, 'ERR_PARKED_EXISTS')
    open(directory)
    for (const end of ['.partial', '.incomplete']) {
      const other = join(folder, 'other')
      mkdirSync(other + end)
      const park = Park.fromFile({ file: join(folder, 'saved'), directory: other })
      await settled(park)
      assert.equal(park.error?.code, 'ERR_PARKED_EXISTS')
      assert.deepEqual(readdirSync(other + end), [])
    }
  })
})

describe('opening a parked VM', () => {
  const damages: readonly (readonly [string, string, (path: string) => void])[] = [
    ['a changed byte of device state', 'devices', flipByte],
    ['a changed configuration', 'configuration', flipByte],
    ['a changed byte of RAM', 'ram-0', flipByte],
    ['a byte in a hole', 'ram-2', flipByte],
    ['a RAM block cut short', 'ram-0', (path) => truncateSync(path, 4096)],
    ['a RAM block too long', 'ram-3', (path) => truncateSync(path, 2 ** 20)],
  ]
  function flipByte(path: string): void {
    const bytes = readFileSync(path)
    bytes[5000 % bytes.length] = (bytes[5000 % bytes.length] ?? 0) ^ 1
    writeFileSync(path, bytes)
  }

  for (const [title, file, damage] of damages) {
    it(`finds ${title}`, async () => {
      const { directory } = await parkBytes(golden('precopy'))
      const path = join(directory, file)
      chmodSync(path, 0o600)
      damage(path)
      assert.throws(
        () => ParkedVm.open(directory, { verify: true }),
        (error: unknown) => {
          assert(error instanceof Error && 'code' in error)
          assert.equal(error.code, 'ERR_PARKED_DAMAGED')
          return error.message.includes(path)
        },
      )
    })
  }

  it('compares the checksums of a manifest without an algorithm by crc32', async () => {
    const { directory } = await parkBytes(golden('precopy'))
    const path = join(directory, 'manifest.json')
    const manifest = readManifest(directory)
    assert.equal(manifest.checksumAlgorithm, 'crc32c-pages')
    const blocks = manifest.blocks.map((block) => {
      const fd = openSync(join(directory, block.file), 'r')
      const checksum = checksumBlock(fd, block.lengthBytes, 'crc32')
      closeSync(fd)
      assert.notEqual(block.dataPages > 0 ? checksum : '', block.checksum)
      return { ...block, checksum }
    })
    const write = (changes: object): void => {
      const fields = JSON.parse(readFileSync(path, 'utf8')) as object
      chmodSync(path, 0o600)
      writeFileSync(path, JSON.stringify({ ...fields, ...changes }))
    }
    write({ blocks })
    assert.throws(() => ParkedVm.open(directory, { verify: true }), { code: 'ERR_PARKED_DAMAGED' })
    write({ checksumAlgorithm: undefined })
    ParkedVm.open(directory, { verify: true }).close()
    write({ checksumAlgorithm: 'crc32' })
    ParkedVm.open(directory, { verify: true }).close()
    write({ checksumAlgorithm: 'sha1' })
    assert.throws(() => ParkedVm.open(directory), {
      code: 'ERR_PARKED_FORMAT',
      message: /checksumAlgorithm/,
    })
  })

  it('names a missing file', async () => {
    const { directory } = await parkBytes(golden('precopy'))
    const path = join(directory, 'ram-1')
    writeFileSync(path, '')
    assert.throws(() => ParkedVm.open(directory), { code: 'ERR_PARKED_DAMAGED' })
    assert.throws(() => ParkedVm.open(join(directory, 'nowhere')), { code: 'ENOENT' })
  })

  const manifests: readonly (readonly [
    string,
    (manifest: Record<string, unknown>) => void,
    string,
  ])[] = [
    ['of a later format', (m) => (m['formatVersion'] = 2), 'ERR_PARKED_VERSION'],
    ['of something else', (m) => (m['format'] = 'ova'), 'ERR_PARKED_FORMAT'],
    ['without blocks', (m) => (m['blocks'] = []), 'ERR_PARKED_FORMAT'],
    ['with a state unknown', (m) => (m['state'] = 'fine'), 'ERR_PARKED_FORMAT'],
    ['with a negative id', (m) => (m['ramSectionId'] = -1), 'ERR_PARKED_FORMAT'],
    [
      'that leads elsewhere',
      (m) => (m['devices'] = { file: '../../etc/passwd', lengthBytes: 1, sha256: '' }),
      'ERR_PARKED_FORMAT',
    ],
    [
      'with half a page',
      (m) => {
        const [first] = m['blocks'] as Record<string, unknown>[]
        if (first !== undefined) first['lengthBytes'] = 4097
      },
      'ERR_PARKED_FORMAT',
    ],
  ]
  for (const [title, change, code] of manifests) {
    it(`refuses a manifest ${title}`, async () => {
      const { directory } = await parkBytes(golden('precopy'))
      const path = join(directory, 'manifest.json')
      const manifest = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>
      change(manifest)
      writeFileSync(path, JSON.stringify(manifest))
      assert.throws(() => ParkedVm.open(directory), { code })
    })
  }

  it('refuses a manifest that is not JSON', async () => {
    const { directory } = await parkBytes(golden('precopy'))
    writeFileSync(join(directory, 'manifest.json'), '{')
    assert.throws(() => ParkedVm.open(directory), { code: 'ERR_PARKED_FORMAT' })
  })

  it('rejects impossible page sizes', async () => {
    const { directory } = await parkBytes(golden('precopy'))
    const sizes: readonly (readonly [string, number])[] = [
      ['missing', 4096],
      ['pc.ram', 5000],
      ['pc.bios', 2 ** 21],
    ]
    for (const size of sizes) {
      assert.throws(() => ParkedVm.open(directory, { pageSizes: new Map([size]) }), {
        code: 'ERR_INVALID_BLOCK',
      })
    }
  })
})
