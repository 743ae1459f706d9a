import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { exportVm, inspectStream, type Manifest } from '../../src/park/index.js'
import { StreamDecoder } from '../../src/stream/index.js'
import { golden } from '../stream/golden.js'
import { edges, fileIn, sharedVm, sparseStream } from './export-support.js'
import { parkBytes, ramOf } from './support.js'

/** What must be the same after a round trip. */
function identity(manifest: Manifest | undefined): object {
  assert(manifest !== undefined)
  const { machineType, ramSectionId, configuration, devices, description, blocks } = manifest
  return { machineType, ramSectionId, configuration, devices, description, blocks }
}

/** The records of RAM in order. */
function recordsOf(bytes: Uint8Array): string[] {
  const records: string[] = []
  const decoder = new StreamDecoder({
    ramPage: (name, offset) => records.push(`${name} ${offset} page`),
    ramZero: (name, offset) => records.push(`${name} ${offset} zero`),
  })
  decoder.write(bytes)
  return records
}

describe('exporting a parked VM as a stream', () => {
  const bytes = golden('precopy')
  const shared = { qemu: sharedVm(bytes), edges: sharedVm(sparseStream(edges)) }

  for (const [title, key] of [
    ['a VM of QEMU', 'qemu'],
    ['a VM with data at the edges of chunks, and without a description', 'edges'],
  ] as const) {
    it(`parks again as the same VM: ${title}`, async () => {
      const { folder, vm } = await shared[key].open()
      const report = await exportVm(vm, fileIn(folder))
      const exported = readFileSync(fileIn(folder))
      assert.equal(report.lengthBytes, exported.length)
      const { park } = await parkBytes(exported)
      assert.equal(park.state, 'completed')
      assert.deepEqual(identity(park.manifest), identity(vm.manifest))
      assert.equal(park.manifest?.statistics.unsentPages, 0)
    })
  }

  it('sends every page once, ascending, and zero pages as zero records', async () => {
    const { folder, vm } = await shared.qemu.open()
    await exportVm(vm, fileIn(folder))
    const exported = readFileSync(fileIn(folder))
    const expected = [...ramOf(bytes)].flatMap(([name, content]) =>
      Array.from({ length: content.length / 4096 }, (_, page) => {
        const isData = content.subarray(page * 4096, (page + 1) * 4096).some((byte) => byte !== 0)
        return `${name} ${page * 4096} ${isData ? 'page' : 'zero'}`
      }),
    )
    assert.deepEqual(recordsOf(exported), expected)
    const { ramSections, commands, oddities } = await inspectStream(fileIn(folder))
    assert.deepEqual(ramSections, { start: 1, part: vm.blocks.length, end: 1 })
    assert.deepEqual([commands, oddities], [{}, []])
  })

  it('begins and ends with the bytes of the stream that was parked', async () => {
    const { folder, vm } = await shared.qemu.open()
    await exportVm(vm, fileIn(folder))
    const exported = readFileSync(fileIn(folder))
    // Header, configuration, and the section START with the block list.
    const parked = Buffer.from(bytes)
    const part = parked.indexOf(Buffer.from('7e0000000202', 'hex')) + 5
    assert(part > 100)
    assert(exported.subarray(0, part).equals(parked.subarray(0, part)))
    const tail = parked.subarray(parked.indexOf(vm.saveDevices()))
    assert(exported.subarray(-tail.length).equals(tail))
  })
})
