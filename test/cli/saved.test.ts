/** Saved files at the command line. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, utimesSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { libvirtImage, mappedRam, ramSection, streamOf } from '../sources/short-images.js'
import { qcow2Of } from '../sources/short-qcow2.js'
import { save } from '../sources/support.js'
import { fakeProgram } from '../support/fake-program.js'
import { runInside } from './inside.js'
import { temporaryFolder } from './support.js'

const state = streamOf({ sections: (out) => ramSection(out, 'end', [[1, 0x11]]) })
const background = streamOf({ sections: (out) => ramSection(out, 'part', [[1, 0x11]]) })
const snapshots = [
  { id: '1', name: 'one', state },
  { id: '2', name: 'two', state },
]

async function inspect(bytes: Uint8Array, ...options: string[]): Promise<string> {
  const { status, stdout, stderr } = await runInside(['inspect', await save(bytes), ...options])
  assert.equal(status, 0, stderr)
  return stdout
}

describe('postcopy inspect shows a saved file', () => {
  it('of QEMU, with its blocks and whether the guest ran', async () => {
    const found = await inspect(mappedRam())
    assert.match(found, /^a mapped-ram file of a pc, [\d,]+ bytes\n/)
    assert.match(found, /the guest ran when it was saved: yes \(run state running\)/)
    assert.match(found, /│ m +│ 12\.0 KiB +│ 8\.00 KiB +│/)
    assert.match(await inspect(background), /^a stream file of a pc/)
    assert.match(await inspect(state), /^precopy stream of a pc/)
  })

  it('of libvirt, with name and UUID', async () => {
    const found = await inspect(libvirtImage(() => state, { wasRunning: 0 }))
    assert.match(found, /libvirt's image of version 2, raw: domain a&b \(u-1\)/)
    assert.match(found, /the guest ran when it was saved: no/)
  })

  it('with snapshots, of which one is chosen', async () => {
    const image = qcow2Of({ snapshots })
    assert.match(await inspect(image), /│ 2 +│ two +│ 2023-11-14T22:13:20\.000Z │/)
    const found = await inspect(image, '--snapshot', 'two')
    assert.match(found, /^a qcow2 file of a pc.*\nsnapshot two \(2\)/)
    assert.match(await inspect(qcow2Of({ snapshots: [] })), /without internal snapshots/)
  })

  it('at an offset, in decimal, hexadecimal or with a suffix', async () => {
    const bytes = Buffer.concat([new Uint8Array(1024), state])
    for (const offset of ['1024', '0x400', '1K']) {
      assert.match(await inspect(bytes, '--offset', offset), /^a stream file of a pc/)
    }
  })

  it('that is compressed, of which only the beginning is unpacked', async () => {
    const file = await save(gzipSync(Buffer.concat([state, new Uint8Array(2 ** 23)])))
    // A program that goes on for ever after that.
    await fakeProgram('gzip', 'PATH=${PATH#*:}; gzip "$@"; exec sleep 100')
    const show = async (): Promise<string> => (await runInside(['inspect', file])).stdout
    const found = await show()
    assert.match(
      found,
      /^a stream of a pc that is compressed with gzip, [\d,]+ bytes from offset 0/,
    )
    assert.match(found, /│ m +│ 32\.0 KiB +│\n/)
    assert.match(found, /not unpacked yet/)
  })

  it('that is compressed, with the directory that it was unpacked into', async () => {
    const file = await save(libvirtImage(() => gzipSync(state), { format: 1, wasRunning: 0 }))
    await runInside(['resume', file, 'unix:/nowhere'])
    const show = async (): Promise<string> => (await runInside(['inspect', file])).stdout
    const found = await show()
    assert.match(
      found,
      /gzip, [\d,]+ bytes from offset 1\d\d on\nlibvirt's image of version 2, gzip/,
    )
    assert.match(found, /the guest ran when it was saved: no\n/)
    assert.match(found, /\nunpacked in \S+saved\.parked\n$/)
    utimesSync(file, 1, 1)
    assert.match(await show(), /\nunpacked in \S+saved\.parked, but from another file/)
  })

  it('that is compressed, although its beginning cannot be read', async () => {
    const cases = [
      [gzipSync(state).subarray(0, 30), /gzip cannot unpack it: gzip: .*unexpected end/],
      [gzipSync(mappedRam()), /it unpacks to a mapped-ram file: unpack it with gzip -d first/],
    ] as const
    for (const [bytes, message] of cases) {
      const file = await save(bytes)
      const { status, stdout } = await runInside(['inspect', file])
      assert.equal(status, 1)
      assert.match(stdout, /^a stream that is compressed with gzip, [\d,]+ bytes/)
      assert.match(stdout, message)
      const { stdout: json } = await runInside(['inspect', file, '--json'])
      assert.match(json, /"kind":"packed".*"error":\{"code":"ERR_SAVED_/)
    }
  })

  it('as JSON', async () => {
    const report = JSON.parse(await inspect(mappedRam(), '--json')) as Record<string, unknown>
    assert.equal(report['kind'], 'saved-vm')
    assert.deepEqual(report['blocks'], [{ name: 'm', lengthBytes: 12_288, dataPages: 2 }])
  })
})

describe('postcopy resume refuses a saved file', () => {
  const cases: readonly [title: string, args: string[], message: RegExp][] = [
    ['without a snapshot', [], /2 saved VMs: give --snapshot NAME.*\[ERR_SAVED_SNAPSHOT\]/],
    ['with --verify', ['--verify'], /--verify is for a directory.*\[ERR_USAGE\]/],
    ['with an offset that is none', ['--offset', '-3'], /'--offset <bytes>'.*"-3" is not a size/],
    ['with an offset after its end', ['--offset', '1G'], /nothing at this offset/],
  ]
  for (const [title, args, message] of cases) {
    it(title, async () => {
      const file = await save(qcow2Of({ snapshots }))
      const { status, stderr } = await runInside(['resume', file, 'unix:/nowhere', ...args])
      assert.equal(status, 1)
      assert.match(stderr, message)
    })
  }

  const options: readonly [title: string, bytes: Uint8Array, args: string[], message: RegExp][] = [
    ['--snapshot for a compressed file', gzipSync(state), ['--snapshot', 'x'], /for a qcow2 image/],
    ['--index for a compressed file', gzipSync(state), ['--index', 'x'], /is read in place/],
    ['--cache for a file that is read in place', state, ['--cache', 'x'], /this is read in place/],
  ]
  for (const [title, bytes, args, message] of options) {
    it(`and refuses ${title}`, async () => {
      const { status, stderr } = await runInside(['resume', await save(bytes), 'unix:/no', ...args])
      assert.equal(status, 1)
      assert.match(stderr, message)
      assert.match(stderr, /\[ERR_USAGE\]/)
    })
  }

  it('and refuses an offset of a directory', async () => {
    const folder = await temporaryFolder()
    const args = ['resume', folder, 'unix:/nowhere', '--offset', '1']
    const { stderr } = await runInside(args)
    assert.match(stderr, /--offset is for a saved file, not for a directory.*\[ERR_USAGE\]/)
    const missing = await runInside(['resume', join(folder, 'none'), 'unix:/nowhere'])
    assert.match(missing.stderr, /none is not a parked VM/)
  })
})

describe('postcopy resume of a compressed file', () => {
  it('unpacks it once, and says where', async () => {
    const file = await save(gzipSync(state))
    const first = await runInside(['resume', file, 'unix:/nowhere'])
    assert.match(first.stderr, /unpacking \S+saved\n.*unpacked into \S+saved\.parked\n/)
    assert.match(first.stderr, /\/nowhere.*ENOENT/)
    const second = await runInside(['resume', file, 'unix:/nowhere', '--verify'])
    assert.doesNotMatch(second.stderr, /unpacking/)
    assert.match(second.stderr, /unpacked before, in \S+saved\.parked\n/)
  })

  it('says that the guest was paused, as the header of libvirt tells', async () => {
    const file = await save(libvirtImage(() => gzipSync(state), { format: 1, wasRunning: 0 }))
    const { stderr } = await runInside(['resume', file, 'unix:/nowhere'])
    assert.match(stderr, /the guest was paused when it was saved/)
  })

  it('leaves nothing half-made if a signal ends it', async () => {
    const file = await save(Buffer.from('\xfd7zXZ\0 and more', 'latin1'))
    await fakeProgram('xz', `echo > '${file}.begun'; sleep 100`)
    const ending = runInside(['resume', file, 'unix:/nowhere'])
    while (!existsSync(`${file}.begun`)) await sleep(10)
    process.emit('SIGTERM', 'SIGTERM')
    const { status, stderr } = await ending
    assert.equal(status, 143)
    assert.match(stderr, /ended by SIGTERM\n$/)
    assert.deepEqual(readdirSync(dirname(file)).sort(), ['saved', 'saved.begun'])
  })
})
