import assert from 'node:assert/strict'
import { readFileSync, statSync } from 'node:fs'
import { exportVm } from '../../src/park/index.js'
import { golden } from '../stream/golden.js'
import {
  contentOf,
  edges,
  type ExportedFrom,
  fileIn,
  MIB,
  PAGE,
  sharedVm,
  sparseStream,
} from './export-support.js'
import { type MappedRam, readMappedRam } from './mapped-ram-reader.js'
import { ramOf } from './support.js'

async function exported(from: ExportedFrom): Promise<{ bytes: Buffer; read: MappedRam }> {
  const file = fileIn(from.folder)
  const report = await exportVm(from.vm, file, { format: 'mapped-ram' })
  const bytes = readFileSync(file)
  assert.equal(report.lengthBytes, bytes.length)
  assert.equal(report.diskBytes, statSync(file).blocks * 512)
  return { bytes, read: readMappedRam(bytes, from.vm.saveDevices().length) }
}

describe('exporting a parked VM as a mapped-ram file', () => {
  const bytes = golden('precopy')
  const lengthBytes = MIB - PAGE
  const uuid = new Uint8Array(16).fill(7)
  const shared = {
    qemu: sharedVm(bytes),
    edges: sharedVm(sparseStream(edges)),
    short: sharedVm(
      sparseStream({ 'pc.ram': { lengthBytes, pages: [0, 3] } }, [
        { name: 'configuration/capabilities', capabilities: ['postcopy-ram'] },
        { name: 'configuration/uuid', uuid },
      ]),
    ),
  }

  it('has each page with data at its place, its bit set, and the same devices', async () => {
    const from = await shared.qemu.open()
    const { read } = await exported(from)
    const { vm } = from
    assert.equal(read.machineType, vm.machineType)
    assert.equal(read.ramSectionId, vm.ramSectionId)
    assert(read.devices.equals(vm.saveDevices()))
    assert.equal(read.description?.length, vm.manifest.description?.lengthBytes)
    const expected = ramOf(bytes)
    assert.deepEqual(
      read.blocks.map(({ name }) => name),
      [...expected.keys()],
    )
    for (const { name, lengthBytes, pages } of read.blocks) {
      const content = Buffer.alloc(lengthBytes)
      for (const [page, data] of pages) data.copy(content, page * PAGE)
      assert(content.equals(expected.get(name) ?? Buffer.alloc(0)), name)
    }
  })

  it('sets the right bits at the edges of words, chunks and blocks, and leaves holes', async () => {
    const from = await shared.edges.open()
    const { bytes, read } = await exported(from)
    for (const { name, pages } of read.blocks) {
      assert.deepEqual([...pages.keys()], edges[name]?.pages, name)
      for (const [page, data] of pages) assert(data.equals(contentOf(page)), `${name} ${page}`)
    }
    const { blocks } = statSync(fileIn(from.folder))
    assert(bytes.length > 133 * MIB && blocks * 512 < MIB, `${blocks} blocks on disk`)
  })

  it('adds the capability to those of the source, and keeps its uuid', async () => {
    const { read } = await exported(await shared.short.open())
    assert.deepEqual(read.capabilities, ['postcopy-ram', 'mapped-ram'])
    assert(read.uuid?.equals(uuid))
  })

  it('is refused by the reader of these tests if anything is at another place', async () => {
    const { bytes, read } = await exported(await shared.short.open())
    const [block] = read.blocks
    assert(block !== undefined)
    const { bitmapAt, pagesAt } = block
    assert(bitmapAt < 200 && pagesAt === MIB)
    const changes: Record<string, (file: Buffer) => unknown> = {
      'the capability': (file) => file.write('mapped-rom', file.indexOf('mapped-ram')),
      'the page size': (file) => file.writeBigUInt64BE(8192n, bitmapAt - 24),
      'the offset of the bitmap': (file) => file.writeBigUInt64BE(0n, bitmapAt - 16),
      'the offset of the pages': (file) => file.writeBigUInt64BE(2n ** 21n, bitmapAt - 8),
      'a bit of a zero page': (file) => file.writeUInt8(0b1011, bitmapAt),
      'a bit beyond the block': (file) => file.writeUInt8(0x80, bitmapAt + 31),
      'big-endian words': (file) => file.subarray(bitmapAt, bitmapAt + 8).reverse(),
      'the end of RAM': (file) => file.writeUInt8(0, pagesAt + lengthBytes + 7),
    }
    for (const [title, change] of Object.entries(changes)) {
      const changed = Buffer.from(bytes)
      change(changed)
      assert.throws(() => readMappedRam(changed, read.devices.length), assert.AssertionError, title)
    }
  })
})
