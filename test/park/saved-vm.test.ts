/** Saved files as machines to send, and parked from. */
import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { SavedVm, WorkingSet, Park, ParkedVm } from '../../src/park/index.js'
import { type SavedOptions, savedStream } from '../../src/sources/index.js'
import { unpacked } from '../../src/sources/unpack.js'
import * as stream from '../../src/stream/index.js'
import { filled, libvirtImage, mappedRam, ramSection, streamOf } from '../sources/short-images.js'
import { qcow2Of } from '../sources/short-qcow2.js'
import { save } from '../sources/support.js'
import * as short from '../stream/short-stream.js'
import { cleanups } from '../support/cleanup.js'
import { ramOf, settled } from './support.js'

const pages = [
  [1, 0x11],
  [2, undefined],
  [5, 0x55],
] as const
const plain = streamOf({ sections: (out) => ramSection(out, 'end', pages) })
const background = streamOf({ sections: (out) => ramSection(out, 'part', pages) })
const expected = Buffer.concat(
  Array.from({ length: 8 }, (_, page) => filled(page === 1 ? 0x11 : page === 5 ? 0x55 : 0)),
)

async function open(bytes: Uint8Array, options: SavedOptions = {}): Promise<SavedVm> {
  const vm = await SavedVm.open(await save(bytes), options)
  cleanups.add(() => vm.close())
  return vm
}

/** Parks a file; returns the park and its directory. */
async function parked(
  bytes: Uint8Array,
  where: Pick<SavedOptions, 'offset' | 'snapshot'> = {},
): Promise<{ park: Park; directory: string }> {
  const file = await save(bytes)
  const directory = join(dirname(file), 'vm')
  const park = Park.fromFile({ file, directory, ...where })
  cleanups.add(() => park.close())
  await settled(park)
  return { park, directory }
}

/** By page, as a mapped-ram file of 8 pages has them. */
const mapped = Array.from({ length: 8 }, (_, page) => pages.find(([at]) => at === page)?.[1])

describe('a saved VM', () => {
  it('is a machine that never runs here, whose pages are in its file', async () => {
    const vm = await open(mappedRam({ pages: [0x11, undefined, 0x33] }))
    const [block] = vm.blocks
    assert.deepEqual(
      [vm.machineType, vm.readOnly, vm.isWhole, vm.running],
      ['pc', true, true, false],
    )
    assert.equal(block?.lengthBytes, 3 * 4096)
    const row = new Float64Array(5)
    assert.equal(block.pages.find(1, row), false)
    assert.equal(block.pages.find(2, row), true)
    assert(Buffer.from(vm.saveDevices()).equals(short.devices()))
    assert.throws(() => vm.loadDevice('x'), { code: 'ERR_DEVICE_STATE' })
  })

  it('may have larger pages at the destination, if its blocks are whole ones', async () => {
    const path = await save(plain)
    const vm = await SavedVm.open(path, { pageSizes: new Map([['m', 8192]]) })
    cleanups.add(() => vm.close())
    assert.equal(vm.blocks[0]?.pageSizeBytes, 8192)
    const wrong = SavedVm.open(path, { pageSizes: new Map([['m', 65_536]]) })
    await assert.rejects(wrong, { code: 'ERR_INVALID_BLOCK' })
  })

  it('has a working set beside its file, which belongs to it and its copies', async () => {
    const vm = await open(plain)
    const workingSet = WorkingSet.open(vm)
    workingSet.begin(vm).add(0, 1, 3)
    assert.equal(workingSet.save(), 2)
    assert.equal(workingSet.file, `${vm.path}.working-set`)
    const copy = await open(plain)
    assert.equal(WorkingSet.open(copy, { file: workingSet.file }).pageCount, 2)
    const other = await open(
      streamOf({
        sections: (out) => ramSection(out, 'end', pages),
        devices: stream.encode((out) => {
          stream.encodeSectionFull(out, { id: 9, idstr: 'other', instanceId: 0, version: 1 })
          stream.encodeFooter(out, 9)
        }),
      }),
    )
    const foreign = { code: 'ERR_WORKING_SET_FOREIGN' }
    assert.throws(() => WorkingSet.open(other, { file: workingSet.file }), foreign)
  })

  it('has a working set of its own for each snapshot', async () => {
    const snapshots = [{ id: '3', name: 'three', state: plain }]
    const vm = await open(qcow2Of({ snapshots }))
    assert.equal(vm.workingSetFile, `${vm.path}.snapshot-3.working-set`)
  })
})

describe('park --from', () => {
  const sources: readonly [title: string, bytes: Uint8Array, where?: SavedOptions][] = [
    ['a mapped-ram file', mappedRam({ pages: mapped })],
    ["libvirt's image", libvirtImage(() => plain)],
    ["libvirt's compressed image", libvirtImage(() => gzipSync(plain), { format: 1 })],
    ['a compressed stream', gzipSync(plain)],
    ['a background snapshot', background],
    ['a stream that other bytes follow', Buffer.concat([plain, new Uint8Array(5000)])],
    ['a stream at an offset', Buffer.concat([new Uint8Array(77), plain]), { offset: 77 }],
    [
      'a snapshot in a qcow2 image',
      qcow2Of({ snapshots: [{ id: '3', name: 'three', state: plain, gapsBefore: [2, 9] }] }),
      { snapshot: 'three' },
    ],
  ]
  for (const [title, bytes, where] of sources) {
    it(`makes a directory of ${title}, and leaves nothing beside it`, async () => {
      const { park, directory } = await parked(bytes, where)
      assert.equal(park.error, undefined)
      assert.equal(park.manifest?.state, 'complete')
      assert.deepEqual(readdirSync(dirname(directory)).sort(), ['saved', 'vm'])
      const ram = readFileSync(join(directory, park.manifest.blocks[0]?.file ?? ''))
      assert(ram.equals(expected))
      const vm = ParkedVm.open(directory, { verify: true })
      assert(Buffer.from(vm.saveDevices()).equals(short.devices()))
      vm.close()
    })
  }

  it('refuses what a directory has no place for: devices that are loaded before RAM', async () => {
    const before = (out: stream.Writer): void => {
      stream.encodeSectionFull(out, { id: 40, idstr: 'early', instanceId: 0, version: 1 })
      stream.encodeFooter(out, 40)
    }
    const devices = stream.encode((out) => {
      stream.encodeSectionFull(out, { id: 41, idstr: 'late', instanceId: 0, version: 1 })
      stream.encodeFooter(out, 41)
    })
    const description =
      '{"devices": [{"name": "early", "fields": []}, {"name": "late", "fields": []}]}'
    const sections = (out: stream.Writer): void => ramSection(out, 'end', pages)
    const bytes = streamOf({ before, devices, description, sections })
    const { earlySections } = await open(bytes)
    assert.equal(earlySections.length, 24)
    const { park, directory } = await parked(bytes)
    assert.match(park.error?.message ?? '', /loaded before RAM/)
    assert.deepEqual(readdirSync(dirname(directory)), ['saved'])
  })

  it('reads a stream that needs no change as it is, and whatever it does not know', async () => {
    for (const bytes of [
      plain,
      short.postcopyStream(),
      Buffer.from('nothing'),
      new Uint8Array(9),
    ]) {
      assert.equal(await savedStream(await save(bytes)), undefined)
    }
  })

  it('makes a stream with each page once, which a decoder takes', async () => {
    const path = await save(mappedRam({ pages: mapped }))
    const pieces: Uint8Array[] = []
    for await (const piece of (await savedStream(path)) ?? []) pieces.push(Buffer.from(piece))
    assert(Buffer.from(ramOf(Buffer.concat(pieces)).get('m') ?? []).equals(expected))
  })
})

describe('a compressed file', () => {
  async function drain(pieces: AsyncIterable<Uint8Array>): Promise<number> {
    let bytes = 0
    for await (const piece of pieces) bytes += piece.length
    return bytes
  }

  it('is unpacked by the program of its format, which may be missing', async () => {
    const path = await save(gzipSync(plain))
    assert.equal(await drain(unpacked(path, 0, 'gzip')), plain.length)
    const { PATH } = process.env
    process.env['PATH'] = '/nonexistent'
    cleanups.add(() => (process.env['PATH'] = PATH))
    await assert.rejects(drain(unpacked(path, 0, 'gzip')), {
      code: 'ERR_SAVED_UNPACK',
      message: /compressed, and the program gzip cannot be started/,
    })
  })

  it('that is cut, or is something else, is refused in the words of the program', async () => {
    const packed = gzipSync(plain)
    const path = await save(packed.subarray(0, packed.length - 20))
    await assert.rejects(drain(unpacked(path, 0, 'gzip')), {
      code: 'ERR_SAVED_UNPACK',
      message: /gzip cannot unpack it: gzip: .*unexpected end/,
    })
    const { park, directory } = await parked(packed.subarray(0, packed.length - 20))
    assert.equal(park.error?.code, 'ERR_SAVED_UNPACK')
    assert.deepEqual(readdirSync(dirname(directory)), ['saved'])
  })
})
