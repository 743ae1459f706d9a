/** The disks in a command line, and the overlays of a clone. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { checkRecorded, findDisks, makeOverlays, planBackings } from '../../src/qemu/clone-disks.js'
import { fileState } from '../../src/qemu/disks.js'
import { createOverlay, overlayImage } from '../../src/qemu/overlay.js'
import type { RecordedDisk } from '../../src/qemu/origin-file.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import { requires } from '../support/requires.js'

const EMPTY = { name: 'hd0', file: '', isReadOnly: false, backing: [] }

/** The arguments of a clone whose disks are in `folder`. */
function cloned(folder: string, args: readonly string[]): { args: string[]; made: string[] } {
  const found = findDisks(args, folder)
  const own = [...args]
  const made: string[] = []
  makeOverlays(own, found.disks, planBackings(found, []), { folder, prefix: 'c', made })
  return { args: own, made }
}

async function folderWith(...names: readonly string[]): Promise<string> {
  const folder = await temporaryFolder()
  for (const name of names) writeFileSync(join(folder, name), Buffer.alloc(1024))
  return folder
}

describe('the disks of a clone', () => {
  it('get an overlay each, in every form of the options', async () => {
    const name = 'a,b "c"\nd'
    const folder = await folderWith(name)
    const path = join(folder, `c-0-${name}.qcow2`)
    const file = name.replace(',', ',,')
    const commas = path.replaceAll(',', ',,')
    const json = { driver: 'raw', 'node-name': 'd', file: { driver: 'file', filename: name } }
    for (const [args, expected] of [
      [
        ['-hda', name],
        ['-hda', path],
      ],
      [
        ['--hdb', name],
        ['--hdb', path],
      ],
      [
        ['-drive', `file=${file},if=virtio,format=raw`],
        ['-drive', `if=virtio,file=${commas},format=qcow2`],
      ],
      [
        ['-blockdev', JSON.stringify(json)],
        [
          '-blockdev',
          JSON.stringify({ ...json, driver: 'qcow2', file: { driver: 'file', filename: path } }),
        ],
      ],
      [
        ['-blockdev', `raw,node-name=d,file.driver=file,file.filename=${file}`],
        ['-blockdev', `raw,node-name=d,file.driver=file,driver=qcow2,file.filename=${commas}`],
      ],
      [
        [
          '-blockdev',
          `driver=file,filename=${file},node-name=f`,
          '-blockdev',
          'driver=raw,file=f,node-name=d',
        ],
        [
          '-blockdev',
          `driver=file,node-name=f,filename=${commas}`,
          '-blockdev',
          'file=f,node-name=d,driver=qcow2',
        ],
      ],
    ] as const) {
      const { args: own, made } = cloned(folder, args)
      assert.deepEqual(own, [...expected])
      assert.deepEqual(made, [path])
      rmSync(path)
    }
  })

  it('get none if they are read-only or empty', async () => {
    const folder = await folderWith('disk')
    for (const args of [
      ['-cdrom', 'disk'],
      ['-drive', 'file=disk,readonly=on'],
      ['-drive', 'file=disk,media=cdrom'],
      ['-drive', 'if=ide,index=2,media=disk'],
      ['-blockdev', 'driver=raw,file.driver=file,file.filename=disk,read-only=on'],
      [
        '-blockdev',
        'driver=file,filename=disk,node-name=f',
        '-blockdev',
        'driver=raw,file=f,read-only=on',
      ],
      ['-blockdev', 'driver=null-co,node-name=n'],
    ]) {
      assert.deepEqual(findDisks(args, folder), { disks: [], others: [] })
    }
  })

  it('are refused by name if they can have no overlay', async () => {
    const folder = await folderWith('disk')
    for (const [args, why] of [
      [['-drive', 'file=nbd:host:1'], /-drive file=nbd:host:1: not a plain file/],
      [['-drive', 'file=disk,snapshot=on'], /temporary file/],
      [['-snapshot', '-hda', 'disk'], /-snapshot: the guest wrote to temporary files/],
      [['-drive', 'driver=raw,file.filename=disk'], /give the disk as file=/],
      [['-blockdev', 'driver=file,filename=disk,node-name=f'], /below one format/],
      [['-blockdev', 'driver=host_device,filename=/dev/x,node-name=f'], /below one format/],
      [['-blockdev', 'driver=raw,size=512,file.driver=file,file.filename=disk'], /backing, size/],
    ] as const) {
      const found = findDisks(args, folder)
      assert.throws(() => planBackings(found, []), { code: 'ERR_DISK_OVERLAY', message: why })
    }
  })

  it('have the recorded format, and the overlay that their QEMU gave them', async () => {
    const folder = await folderWith('base', 'overlay')
    const [base, overlay] = [join(folder, 'base'), join(folder, 'overlay')]
    const disk: RecordedDisk = {
      ...EMPTY,
      format: 'qcow2',
      virtualSizeBytes: 4096,
      state: fileState(overlay),
      backing: [base],
    }
    const found = findDisks(['-drive', 'file=base,format=raw'], folder)
    const backings = planBackings(found, [disk])
    assert.deepEqual(backings, [{ path: overlay, format: 'qcow2', virtualSizeBytes: 4096 }])
  })

  it('are refused if they have changed since parking', async () => {
    const folder = await folderWith('disk')
    const path = join(folder, 'disk')
    const header = Buffer.alloc(1024)
    header.write('QFI\xfb', 'latin1')
    writeFileSync(path, header)
    const found = findDisks(['-hda', 'disk'], folder)
    const { atime, mtime } = statSync(path)
    // utimes(2) by Node is less exact than what the file had.
    utimesSync(path, atime, mtime)
    const recorded = [{ ...EMPTY, format: 'qcow2', virtualSizeBytes: 1024, state: fileState(path) }]
    const check = (): void => {
      checkRecorded(found, recorded, false)
    }
    check()
    header[100] = 1
    writeFileSync(path, header)
    utimesSync(path, atime, mtime)
    assert.throws(check, { code: 'ERR_DISK_CHANGED', message: /its qcow2 header differs\)/ })
    writeFileSync(path, header.subarray(0, 512))
    assert.throws(check, { message: /has 512 bytes, and had 1024; it was written at 20/ })
    // Another disk of the recorded QEMU does not matter for a command without it.
    checkRecorded(findDisks([], folder), recorded, false)
    assert.throws(() => checkRecorded(findDisks([], folder), recorded, true), {
      code: 'ERR_DISK_CHANGED',
    })
  })
})

describe('an overlay', () => {
  it('refers to its disk with format and size', () => {
    const { bytes, lengthBytes } = overlayImage({
      path: '/d',
      format: 'raw',
      virtualSizeBytes: 2 ** 40 + 1,
    })
    const image = Buffer.from(bytes)
    assert.equal(image.readBigUInt64BE(24), 2n ** 40n + 512n)
    assert.equal(image.readUInt32BE(36), 2049)
    assert.equal(lengthBytes, 4 * 65536)
    const at = Number(image.readBigUInt64BE(8))
    assert.equal(image.toString('latin1', at, at + image.readUInt32BE(16)), '/d')
    assert.equal(image.toString('latin1', 112, 115), 'raw')
  })

  it('replaces no file, and is readable by its owner only', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'o')
    const backing = { path: '/d', format: 'raw', virtualSizeBytes: 512 }
    createOverlay(file, backing)
    assert.equal(statSync(file).mode & 0o777, 0o600)
    const before = readFileSync(file)
    assert.throws(() => createOverlay(file, backing), { code: 'EEXIST' })
    assert.deepEqual(readFileSync(file), before)
    assert.throws(
      () => createOverlay(join(folder, 'y'), { ...backing, path: `/${'x'.repeat(1023)}` }),
      {
        code: 'ENAMETOOLONG',
        message: /at most 1023 bytes, not 1024/,
      },
    )
  })

  it('leaves nothing on a full disk', async function () {
    requires(this, 'root')
    const folder = await temporaryFolder()
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder])
    cleanups.add(() => execFileSync('umount', [folder]))
    const backing = { path: '/disk', format: 'raw', virtualSizeBytes: 2 ** 40 } as const
    assert.throws(() => createOverlay(join(folder, 'x'), backing), { code: 'ENOSPC' })
    assert.deepEqual(readdirSync(folder), [])
  })
})
