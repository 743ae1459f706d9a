/** `postcopy resume --start` and `inspect --against`, as far as they need no QEMU. */
import assert from 'node:assert/strict'
import { readdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parkedVm } from '../park/support.js'
import { runInside } from './inside.js'
import { temporaryFolder } from './support.js'

const privateFolders = (): string[] =>
  readdirSync(tmpdir()).filter((name) => /^postcopy-[A-Za-z0-9]{6}$/.test(name))

describe('postcopy resume --start', () => {
  it('has the last words of a QEMU that ends, and leaves nothing', async () => {
    const { directory, folder } = await parkedVm()
    writeFileSync(join(folder, 'disk'), Buffer.alloc(512))
    const disks = join(folder, 'disks')
    const before = privateFolders()
    const script = "console.error('first\\n\\x1b[1mlast words'); process.exit(3)"
    const command = [process.execPath, '-e', script, 'x', '-hda', join(folder, 'disk')]
    const { status, stderr } = await runInside([
      ...['resume', directory, '--start', '--disks', disks, '--', ...command],
    ])
    assert.equal(status, 1)
    assert.match(
      stderr,
      /QEMU has ended before it waited for the VM \(status 3\):\n {2}first\n {2}\\x1b\[1mlast words \[ERR_QEMU_START\]/,
    )
    assert.deepEqual(privateFolders(), before)
    assert.deepEqual(readdirSync(disks), [])
  })

  it('names a program that cannot be started', async () => {
    const { directory } = await parkedVm()
    const { stderr } = await runInside(['resume', directory, '--start', '--', './no "qemu"'])
    assert.match(stderr, /no "qemu" cannot be started in .* \(ENOENT\) \[ERR_QEMU_START\]/)
  })

  it('asks for a folder for overlays, or for leave to share the disks', async () => {
    const { directory, folder } = await parkedVm()
    const command = ['qemu', '-hda', join(folder, 'disk')]
    writeFileSync(join(folder, 'disk'), Buffer.alloc(512))
    const { status, stderr } = await runInside(['resume', directory, '--start', '--', ...command])
    assert.equal(status, 1)
    assert.match(stderr, /-hda \S+disk\. --disks DIR .*--share-disks .*\[ERR_DISK_OVERLAY\]/)
  })

  it('refuses options that do not fit', async () => {
    const { directory } = await parkedVm()
    for (const [args, why] of [
      [[directory], /missing required argument 'uri', or --start/],
      [[directory, 'unix:x', '--count', '2'], /--count needs --start/],
      [[directory, 'unix:x', '--disks', 'x'], /--disks needs --start/],
      [[directory, 'unix:x', '--share-disks'], /--share-disks needs --start/],
      [[directory, '--start', '--recover'], /--start cannot be combined with --recover/],
      [[directory, '--start', '--disks', 'x', '--share-disks'], /exclude each other/],
      [[directory, '--start', '--', 'q', '\ufffd'], /bytes that are not UTF-8/],
      [[directory, '--start'], /\[ERR_NO_LAUNCH_RECORD\]/],
      [[directory, '--start', '--count', '2', '--', 'q', '-s'], /\[ERR_CLONES_CLASH\]/],
      [[directory, 'x'], /give tcp:HOST:PORT or unix:PATH/],
    ] as const) {
      const { status, stderr } = await runInside(['resume', ...args])
      assert.notEqual(status, 0)
      assert.match(stderr, why)
    }
  })
})

describe('postcopy inspect --against', () => {
  it('has the last words of a QEMU that ends', async () => {
    const { directory } = await parkedVm()
    const command = [
      process.execPath,
      '-e',
      "console.error('no such machine'); process.exit(1)",
      'x',
    ]
    const { status, stderr } = await runInside([
      'inspect',
      directory,
      '--against',
      '--',
      ...command,
    ])
    assert.equal(status, 1)
    assert.match(stderr, /no such machine \[ERR_QEMU_START\]/)
  })

  it('is needed for a command, and takes no saved stream', async () => {
    const { directory } = await parkedVm()
    const without = await runInside(['inspect', directory, '--', 'qemu'])
    assert.match(without.stderr, /a command after -- needs --against/)
    const file = join(await temporaryFolder(), 'saved')
    writeFileSync(file, 'x')
    const { status, stderr } = await runInside(['inspect', file, '--against', '--', 'qemu'])
    assert.equal(status, 1)
    assert.match(stderr, /is not a parked VM/)
  })
})
