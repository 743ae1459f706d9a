import assert from 'node:assert/strict'
import { join } from 'node:path'
import { recognize } from '../../src/sources/index.js'
import { temporaryFolder } from '../cli/support.js'
import * as short from '../stream/short-stream.js'
import { libvirtImage, mappedRam } from './short-images.js'
import { qcow2Of } from './short-qcow2.js'
import { refuses, save } from './support.js'

const beginnings: readonly [format: string, bytes: Uint8Array][] = [
  ['stream', short.precopyStream()],
  ['mapped-ram', mappedRam()],
  ['libvirt', libvirtImage(() => short.precopyStream())],
  ['libvirt-partial', Buffer.from('LibvirtQemudPart')],
  ['qcow2', qcow2Of({ snapshots: [] })],
  ['gzip', Uint8Array.of(0x1f, 0x8b, 8, 0)],
  ['zstd', Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd)],
  ['xz', Buffer.from('\xfd7zXZ\0', 'latin1')],
  ['bzip2', Buffer.from('BZh91AY')],
  ['lzop', Buffer.from('\x89LZO\0\r\n\x1a\n', 'latin1')],
  ['elf-core', Buffer.from('\x7fELF\x02')],
  ['zeros', new Uint8Array(5000)],
  ['empty', new Uint8Array(0)],
  ['unknown', Buffer.from('#!/bin/sh\n')],
  ['unknown', Buffer.from('QEV')],
]

describe('the format of a saved VM', () => {
  it('is recognized by its first bytes, at any offset', async () => {
    for (const [format, bytes] of beginnings) {
      assert.equal(await recognize(await save(bytes)), format)
      const moved = await save(Buffer.concat([new Uint8Array(100), bytes]))
      if (format !== 'zeros') assert.equal(await recognize(moved, 100), format)
    }
  })

  it('is that of a parked VM for any directory', async () => {
    assert.equal(await recognize(await temporaryFolder()), 'parked-directory')
  })

  it('that cannot be resumed is an error that says what the file is, and what to do', async () => {
    const refused: readonly [string, Parameters<typeof refuses>[1], RegExp][] = [
      ['libvirt-partial', 'ERR_SAVED_FORMAT', /libvirt has not finished.*Save the domain again/],
      ['elf-core', 'ERR_SAVED_FORMAT', /core dump .*cannot be resumed.*virsh save/],
      ['zeros', 'ERR_SAVED_FORMAT', /begins with zeros.*--offset BYTES/],
      ['unknown', 'ERR_SAVED_FORMAT', /not a saved VM of any kind/],
      ['empty', 'ERR_SAVED_TRUNCATED', /nothing at this offset.*\(at offset 0\)/],
      ['xz', 'ERR_SAVED_REFUSED', /compressed with xz.*unpack it into a directory/],
    ]
    for (const [format, code, message] of refused) {
      const bytes = beginnings.find(([name]) => name === format)?.[1] ?? new Uint8Array(0)
      await refuses(await save(bytes), code, message)
    }
  })

  it('is not asked for a snapshot unless it has snapshots', async () => {
    const path = await save(mappedRam())
    await refuses(path, 'ERR_SAVED_SNAPSHOT', /only a qcow2 image/, { snapshot: 'x' })
  })

  it('is an error of the file system for a file that does not exist, or is no file', async () => {
    const missing = join(await temporaryFolder(), "a 'missing'\nfile")
    await assert.rejects(recognize(missing), { code: 'ENOENT' })
    await assert.rejects(recognize('/dev/null'), { code: 'ERR_FILE_KIND' })
  })
})
