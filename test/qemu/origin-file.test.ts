/** `qemu.json`: how a parked QEMU was started. */
import assert from 'node:assert/strict'
import { chmodSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  decodeOrigin,
  readOrigin,
  readOwnOrigin,
  writeOrigin,
  type Origin,
} from '../../src/qemu/origin-file.js'
import { readLaunch } from '../../src/qemu/qemu-process.js'
import { parkedVm } from '../park/support.js'

const origin: Origin = {
  ...{ wasRunning: true, vcpus: 1, maxVcpus: 2 },
  disks: [
    {
      ...{ name: 'hd0', file: 'a', format: 'qcow2', isReadOnly: false, virtualSizeBytes: 512 },
      state: { path: '/a', lengthBytes: 512, modifiedNs: '-1', headerSha256: 'f' },
      backing: ['/b'],
    },
  ],
  launch: { binary: '/bin/q', version: '7.2.0', args: ['-m', 'a "b"\n'], directory: '/' },
}

describe('the record of how a QEMU was started', () => {
  it('is read as it was written, and only by its owner', async () => {
    const { directory } = await parkedVm()
    assert.equal(readOrigin(directory, {}), undefined)
    writeOrigin(directory, origin, {})
    assert.deepEqual(readOrigin(directory, {}), origin)
    assert.equal(statSync(join(directory, 'qemu.json')).mode & 0o777, 0o600)
  })

  it('is refused with the field that is wrong', () => {
    const whole = { format: 'postcopy-qemu-origin', formatVersion: 1, ...origin }
    const [disk] = origin.disks
    for (const [change, message] of [
      [{ format: 'x' }, /format must be "postcopy-qemu-origin"/],
      [{ wasRunning: 1 }, /wasRunning must be true or false/],
      [{ vcpus: -1 }, /vcpus must be a count/],
      [{ disks: {} }, /disks must be a non-empty list/],
      [{ disks: [{ ...disk, backing: ['a\0'] }] }, /backing must be text without a zero byte/],
      [{ disks: [{ ...disk, state: { ...disk?.state, modifiedNs: '1e9' } }] }, /nanoseconds/],
      [{ launch: { ...origin.launch, args: ['a\0'] } }, /args must be text without a zero byte/],
      [{ launch: { ...origin.launch, binary: 3 } }, /binary must be text/],
    ] as const) {
      const text = JSON.stringify({ ...whole, ...change })
      assert.throws(() => decodeOrigin(text, 'f'), { code: 'ERR_ORIGIN_FORMAT', message })
    }
    assert.throws(() => decodeOrigin(JSON.stringify({ ...whole, formatVersion: 2 }), 'f'), {
      code: 'ERR_PARKED_VERSION',
    })
  })

  it('is refused if it is too long', async () => {
    const { directory } = await parkedVm()
    writeFileSync(join(directory, 'qemu.json'), Buffer.alloc(17 * 2 ** 20), { mode: 0o600 })
    assert.throws(() => readOrigin(directory, {}), { code: 'ERR_ORIGIN_FORMAT', message: /16/ })
  })

  it('is neither run nor read if other users may have written it', async () => {
    const { directory } = await parkedVm()
    writeOrigin(directory, origin, {})
    chmodSync(directory, 0o777)
    assert.throws(() => readOwnOrigin(directory, true), {
      code: 'ERR_PARKED_UNTRUSTED',
      message: /its recorded command is not run: give the command after --/,
    })
    assert.equal(readOwnOrigin(directory, false), undefined)
    assert.equal(readOwnOrigin('-', true), undefined, 'a pipe')
  })

  it('is not made of a process that is no QEMU', () => {
    assert.throws(() => readLaunch(process.pid, '7.2.0'), {
      code: 'ERR_LAUNCH_RECORD',
      message: /the QMP socket belongs to .*node/,
    })
    assert.throws(() => readLaunch(0, '7.2.0'), /not visible here/)
  })
})
