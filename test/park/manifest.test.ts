import assert from 'node:assert/strict'
import { parseFields } from '../../src/park/fields.js'
import { type Manifest, decodeManifest, encodeManifest } from '../../src/park/manifest.js'

const PATH = 'dir/manifest.json'
const FORMAT = 'ERR_PARKED_FORMAT'
const PAGE = 4096

const file = { file: 'devices', lengthBytes: 5, sha256: 'ab' }
const ram = {
  name: 'pc.ram',
  file: 'ram-0',
  lengthBytes: 8 * PAGE,
  pageSizeBytes: PAGE,
  dataPages: 3,
}
const whole: Manifest = {
  state: 'complete',
  parkedAt: '2024-05-06T07:08:09.000Z',
  machineType: 'pc',
  ramSectionId: 2,
  way: 'postcopy',
  checksumAlgorithm: 'crc32c-pages',
  configuration: { ...file, file: 'configuration' },
  devices: file,
  description: { ...file, file: 'description' },
  blocks: [
    { ...ram, checksum: 'cd' },
    { ...ram, name: 'vga', file: 'ram-1', receivedFile: 'received-1' },
  ],
  statistics: {
    transferredBytes: 1,
    normalPages: 2,
    zeroPages: 3,
    discardedPages: 4,
    durationMs: 5,
    unsentPages: 6,
  },
}

/** The text of the manifest, changed by `changes`. */
function textOf(changes: object = {}): string {
  const fields = JSON.parse(Buffer.from(encodeManifest(whole)).toString()) as object
  return JSON.stringify({ ...fields, ...changes })
}

const withBlocks = (...blocks: readonly object[]): string => textOf({ blocks })

describe('a manifest', () => {
  it('is read as it was written', () => {
    assert.deepEqual(decodeManifest(textOf(), PATH), whole)
    const { description, checksumAlgorithm, ...without } = whole
    assert.notEqual(description, undefined)
    assert.notEqual(checksumAlgorithm, undefined)
    const text = Buffer.from(encodeManifest(without)).toString()
    assert.deepEqual(decodeManifest(text, PATH), without)
  })

  it('drops members that it does not know', () => {
    assert.deepEqual(decodeManifest(textOf({ more: 1 }), PATH), whole)
  })

  it('of a later postcopy is rejected with advice', () => {
    assert.throws(() => decodeManifest(textOf({ formatVersion: 2 }), PATH), {
      code: 'ERR_PARKED_VERSION',
      message: /format version 2, but this postcopy supports version 1: use a newer postcopy/,
    })
  })

  const cases: Readonly<Record<string, string>> = {
    'is no JSON': '{',
    'is no object': '[]',
    'has another format': textOf({ format: 'vm' }),
    'has no version': textOf({ formatVersion: undefined }),
    'has an unknown state': textOf({ state: 'whole' }),
    'has a section id of 33 bits': textOf({ ramSectionId: 2 ** 32 }),
    'has no devices': textOf({ devices: undefined }),
    'leads out of its directory': textOf({ devices: { ...file, file: '../devices' } }),
    'leads to a hidden file': textOf({ devices: { ...file, file: '.devices' } }),
    'has an empty file name': textOf({ devices: { ...file, file: '' } }),
    'has more devices than any machine': textOf({ devices: { ...file, lengthBytes: 2 ** 40 } }),
    'has a negative length': textOf({ devices: { ...file, lengthBytes: -1 } }),
    'has a length that is not whole': textOf({ devices: { ...file, lengthBytes: 1.5 } }),
    'has a description that is no object': textOf({ description: 'none' }),
    'has no blocks': withBlocks(),
    'has a block that is no object': textOf({ blocks: [null] }),
    'has a block of no bytes': withBlocks({ ...ram, lengthBytes: 0 }),
    'has a block of parts of pages': withBlocks({ ...ram, lengthBytes: PAGE + 1 }),
    'has a block of parts of its huge pages': withBlocks({ ...ram, pageSizeBytes: 16 * PAGE }),
    'has pages of half a target page': withBlocks({ ...ram, pageSizeBytes: PAGE / 2 }),
    'has a page size that is no power of 2': withBlocks({
      ...ram,
      lengthBytes: 6 * PAGE,
      pageSizeBytes: 3 * PAGE,
    }),
    'has a block without a name': withBlocks({ ...ram, name: '' }),
    'has a name of 256 bytes': withBlocks({ ...ram, name: 'x'.repeat(256) }),
    'has a name of wider characters': withBlocks({ ...ram, name: '\u0100' }),
    'has a block twice': withBlocks(ram, { ...ram, file: 'ram-1' }),
    'has a file twice': withBlocks(ram, { ...ram, name: 'vga' }),
    'has more blocks than a stream': withBlocks(
      ...Array.from({ length: 10_000 }, (_, index) => ({
        ...ram,
        name: `ram${index}`,
        file: `ram-${index}`,
      })),
    ),
    'has more RAM than its bitmaps may cover': withBlocks(
      { ...ram, lengthBytes: 2 ** 44 },
      { ...ram, name: 'vga', file: 'ram-1' },
    ),
    'has a checksum that is no text': withBlocks({ ...ram, checksum: 5 }),
    'names another checksum algorithm': textOf({ checksumAlgorithm: 'md5' }),
    'names no checksum algorithm by null': textOf({ checksumAlgorithm: null }),
    'has no statistics': textOf({ statistics: undefined }),
  }
  for (const [what, text] of Object.entries(cases)) {
    it(`that ${what} is rejected`, () => {
      assert.throws(() => decodeManifest(text, PATH), {
        code: FORMAT,
        message: /dir\/manifest\.json/,
      })
    })
  }
})

describe('untrusted JSON', () => {
  it('has a limit of lists and objects, whatever they hold', () => {
    const nested = (count: number): string => `{"a":[${'[],'.repeat(count - 1)}1]}`
    assert.throws(() => parseFields(nested(2 ** 19), PATH, FORMAT), {
      code: FORMAT,
      message: /more than 524288 lists and objects/,
    })
    parseFields(nested(2 ** 19 - 2), PATH, FORMAT)
  })

  it('is an object', () => {
    for (const text of ['[]', 'null', '5']) {
      assert.throws(() => parseFields(text, PATH, FORMAT), { message: /must be an object/ })
    }
  })

  it('is quoted in part only', () => {
    const fields = parseFields(JSON.stringify({ state: 'x'.repeat(10_000) }), PATH, FORMAT)
    assert.throws(
      () => fields.oneOf('state', ['complete', 'incomplete']),
      (error: Error) =>
        error.message.length < 400 &&
        error.message.startsWith(`${PATH}: state must be complete or incomplete, not "xxx`),
    )
  })

  it('has no members but its own', () => {
    const fields = parseFields('{"a":{}}', PATH, FORMAT)
    assert.throws(() => fields.text('toString'), { code: FORMAT })
    assert.equal(fields.object('a').optional('b'), undefined)
  })
})
