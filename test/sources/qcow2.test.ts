import assert from 'node:assert/strict'
import { readdirSync, truncateSync } from 'node:fs'
import { dirname } from 'node:path'
import { ramSection, streamOf } from './short-images.js'
import { type Qcow2Parts, type SnapshotParts, qcow2Of } from './short-qcow2.js'
import { bytesOf, opened, refuses, save } from './support.js'

const pages = [1, 2, 3, 4, 5, 6, 7].map((page) => [page, page * 0x11] as const)
const expected = Object.fromEntries(pages)
const state = streamOf({ sections: (out) => ramSection(out, 'end', pages) })
const snapshot: SnapshotParts = { id: '1', name: 'one', state }
const disk: SnapshotParts = { id: '9', name: 'disk', state: new Uint8Array(0) }

function image(parts: Partial<Qcow2Parts> = {}): Promise<string> {
  return save(qcow2Of({ snapshots: [snapshot], ...parts }))
}

describe('a snapshot in a qcow2 image', () => {
  const layouts: readonly [title: string, parts: Partial<Qcow2Parts>][] = [
    ['compat 0.10', { version: 2 }],
    ['compat 1.1', { version: 3 }],
    ['clusters of 64 KiB', { clusterBits: 16 }],
    ['clusters of 2 MiB', { clusterBits: 21 }],
    ['extended L2 entries', { clusterBits: 14, hasExtendedL2: true }],
    ['a disk of many L1 entries', { clusterBits: 9, diskBytes: 1_000_001 }],
    ['old entries without extra data', { snapshots: [{ ...snapshot, extraBytes: 0 }] }],
    ['entries without icount', { snapshots: [{ ...snapshot, extraBytes: 16 }] }],
  ]
  for (const [title, parts] of layouts) {
    it(`has its pages with ${title}`, async () => {
      const saved = await opened(await image(parts))
      assert.deepEqual(bytesOf(saved), expected)
      assert.equal(saved.fds.length, 1)
      assert.equal(saved.snapshot?.savedAt, '2023-11-14T22:13:20.000Z')
    })
  }

  it('is found where the image begins at an offset', async () => {
    const bytes = Buffer.concat([new Uint8Array(4000), qcow2Of({ snapshots: [snapshot] })])
    assert.deepEqual(bytesOf(await opened(await save(bytes), { offset: 4000 })), expected)
  })

  it('has pages in memory that two clusters cut in pieces, and only those', async () => {
    const gapsBefore = [1, 3, 4]
    const path = await image({ clusterBits: 12, snapshots: [{ ...snapshot, gapsBefore }] })
    const saved = await opened(path)
    assert.deepEqual(bytesOf(saved), expected)
    const files = new Set<number>()
    const [block] = saved.blocks
    for (let at = 0; at < (block?.runs.length ?? 0); at += 5) files.add(block?.runs[at + 2] ?? -1)
    assert.deepEqual([...files].sort(), [0, 1])
    assert.equal(saved.fds.length, 2)
    // The second time by the index, which has offsets in the state.
    const again = await opened(path)
    assert.equal(again.index?.state, 'used')
    assert.deepEqual(bytesOf(again), expected)
  })

  it('is chosen by name or id, and must be named if there are several', async () => {
    const other = streamOf({ sections: (out) => ramSection(out, 'end', [[0, 0x77]]) })
    const snapshots = [disk, snapshot, { id: '2', name: '1', state: other }]
    const path = await image({ snapshots })
    const code = 'ERR_SAVED_SNAPSHOT'
    await refuses(path, code, /2 saved VMs: give --snapshot NAME, one of "one" \(1\), "1" \(2\)/)
    await refuses(path, code, /there is no snapshot "two"/, { snapshot: 'two' })
    await refuses(path, code, /"disk" has no state of a VM/, { snapshot: 'disk' })
    assert.deepEqual(bytesOf(await opened(path, { snapshot: 'one' })), expected)
    // A name goes before an id.
    assert.deepEqual(bytesOf(await opened(path, { snapshot: '1' })), { 0: 0x77 })
    assert.deepEqual(bytesOf(await opened(path, { snapshot: '2' })), { 0: 0x77 })
    const names = readdirSync(dirname(path)).filter((name) => name.endsWith('-index'))
    assert.deepEqual(names.sort(), [
      'saved.snapshot-1.postcopy-index',
      'saved.snapshot-2.postcopy-index',
    ])
  })

  it('is the default if all others have only the disk', async () => {
    assert.deepEqual(bytesOf(await opened(await image({ snapshots: [disk, snapshot] }))), expected)
    const twice = [snapshot, { ...snapshot, id: '2' }]
    const path = await image({ snapshots: twice })
    await refuses(path, 'ERR_SAVED_SNAPSHOT', /2 snapshots are called "one"/, { snapshot: 'one' })
    assert.deepEqual(bytesOf(await opened(path, { snapshot: '2' })), expected)
  })

  it('must be there', async () => {
    await refuses(await image({ snapshots: [] }), 'ERR_SAVED_SNAPSHOT', /a disk image without/)
    const only = await image({ snapshots: [disk] })
    await refuses(only, 'ERR_SAVED_SNAPSHOT', /none of its 1 snapshots has the state/)
  })

  it('is refused by name if the image is encrypted, corrupt, or has unknown features', async () => {
    const code = 'ERR_SAVED_REFUSED'
    await refuses(await image({ encryption: 2 }), code, /is encrypted.*\(at offset 32\)/)
    await refuses(await image({ incompatible: 2 }), code, /corrupt.*qemu-img check/)
    await refuses(await image({ incompatible: 4 }), code, /incompatible features of qcow2 are 0x4/)
    assert.deepEqual(bytesOf(await opened(await image({ incompatible: 1 }))), expected)
  })

  it('is refused if a cluster of its state is missing', async () => {
    const path = await image({ snapshots: [{ ...snapshot, holes: [9] }] })
    const message =
      /cluster is not allocated \(at offset 4608 of the state of snapshot "one" \(1\)\)/
    await refuses(path, 'ERR_SAVED_DAMAGED', message)
  })

  it('is refused at once if the file announces a state that it does not have', async () => {
    const bytes = Buffer.from(qcow2Of({ snapshots: [snapshot] }))
    const entry = bytes.indexOf('1one') - 64
    // The L1 table is in a hole of a sparse file, too.
    bytes.writeBigUInt64BE(2n ** 39n, entry)
    bytes.writeUInt32BE(2 ** 25 + 100, entry + 8)
    bytes.writeBigUInt64BE(2n ** 40n, entry + 40)
    const path = await save(bytes)
    truncateSync(path, 2 ** 40 + 2 ** 20)
    const begin = performance.now()
    await refuses(path, 'ERR_SAVED_DAMAGED', /not allocated \(at offset 0 of the state of snapshot/)
    assert(performance.now() - begin < 1000, `${performance.now() - begin} ms`)
  })
})
