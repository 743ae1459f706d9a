/** `postcopy park --qemu` against a QMP server in this process. */
import assert from 'node:assert/strict'
import { readdirSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ParkedVm } from '../../src/park/index.js'
import { RunningPark } from '../../src/qemu/index.js'
import { readOrigin } from '../../src/qemu/origin-file.js'
import { golden } from '../stream/golden.js'
import { FakeQemu } from '../support/fake-qemu.js'
import { runInside } from './inside.js'
import { temporaryFolder, type CliResult } from './support.js'

interface Parked extends CliResult {
  directory: string
}

async function park(qemu: FakeQemu, ...options: readonly string[]): Promise<Parked> {
  const directory = join(await temporaryFolder(), 'a "vm"')
  const args = ['park', '--qemu', qemu.uri, '--to', directory, ...options]
  return { directory, ...(await runInside(args)) }
}

const privateFolders = (): string[] =>
  readdirSync(tmpdir()).filter((name) => /^postcopy-[A-Za-z0-9]{6}$/.test(name))

function disk(file: string): unknown {
  const inserted = {
    file,
    drv: 'raw',
    ro: false,
    'node-name': 'n0',
    image: { 'virtual-size': 512 },
  }
  return { device: 'hd0', inserted }
}

describe('postcopy park --qemu', () => {
  it('parks the VM, and puts QEMU’s settings back', async () => {
    const qemu = await FakeQemu.start()
    const during: unknown[] = []
    qemu.answers['migrate-start-postcopy'] = () =>
      void during.push(Object.fromEntries(qemu.capabilities), { ...qemu.parameters })
    const before = [new Map(qemu.capabilities), { ...qemu.parameters }]
    const folders = privateFolders()
    const { status, stderr, stdout, directory } = await park(qemu)
    assert.equal(status, 0, stderr)
    assert.match(stdout, /^parked in .*vm.*\nits QEMU keeps the stopped guest/)
    ParkedVm.open(directory, { verify: true }).close()
    assert.deepEqual(during, [
      {
        ...{ events: true, 'return-path': true, 'postcopy-ram': true },
        ...{ multifd: false, 'pause-before-switchover': false },
      },
      { 'max-bandwidth': 2 ** 40, 'tls-creds': '' },
    ])
    assert.deepEqual([qemu.capabilities, qemu.parameters], before)
    assert.equal(qemu.runState, 'postmigrate')
    assert.deepEqual(privateFolders(), folders)
  })

  it('never switches with --after never, and without postcopy-ram', async () => {
    const qemu = await FakeQemu.start()
    let set: unknown
    const { migrate } = { migrate: () => qemu.capabilities.get('postcopy-ram') }
    qemu.answers['query-block'] = () => {
      set ??= migrate()
      return []
    }
    const { status, stderr } = await park(qemu, '--after', 'never')
    assert.equal(status, 0, stderr)
    assert.equal(set, false)
    assert(!qemu.commands.includes('migrate-start-postcopy'))
  })

  it('ends QEMU with --quit, and lets the guest continue with --keep-running', async () => {
    const ended = await FakeQemu.start()
    assert.match((await park(ended, '--quit')).stdout, /its QEMU has ended/)
    assert.equal(ended.commands.at(-1), 'quit')
    const kept = await FakeQemu.start()
    assert.match((await park(kept, '--keep-running')).stdout, /the guest continues in its QEMU/)
    assert.equal(kept.runState, 'running')
  })

  it('does not start a guest that was paused', async () => {
    const qemu = await FakeQemu.start()
    qemu.runState = 'paused'
    const { status, directory } = await park(qemu, '--keep-running')
    assert.equal(status, 0)
    assert(!qemu.commands.includes('cont'))
    assert.equal(readOrigin(directory, {})?.wasRunning, false)
  })

  it('refuses to let a guest continue that would write to the disks of the parked VM', async () => {
    const qemu = await FakeQemu.start()
    qemu.disks = [disk('/x/disk')]
    const { status, stderr, directory } = await park(qemu, '--keep-running')
    assert.equal(status, 1)
    assert.match(stderr, /hd0 \(\/x\/disk\).*--snapshot-disks.*\[ERR_DISKS_SHARED\]/)
    assert(!qemu.commands.includes('migrate'))
    assert.throws(() => statSync(directory), { code: 'ENOENT' })
  })

  it('gives the disks overlays while the guest is stopped before the switch', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'disk')
    writeFileSync(file, Buffer.alloc(512))
    const qemu = await FakeQemu.start()
    qemu.disks = [disk(file)]
    const taken: unknown[] = []
    const { stream } = qemu
    qemu.stream = undefined
    qemu.answers['query-migrate'] = () => {
      if (qemu.migrationStatus === 'active' && taken.length === 0) {
        return { status: 'pre-switchover' }
      }
      return qemu.migrationStatus === undefined ? {} : { status: qemu.migrationStatus }
    }
    qemu.answers['transaction'] = ({ actions }) => void taken.push(actions)
    qemu.answers['migrate-continue'] = () => qemu.finish(stream)
    const { status, stderr, directory } = await park(
      // QEMU has another working directory.
      ...([qemu, '--keep-running', '--snapshot-disks', relative(process.cwd(), folder)] as const),
    )
    assert.equal(status, 0, stderr)
    const [[action]] = taken as [[{ type: string; data: Record<string, string> }]]
    assert.equal(action.type, 'blockdev-snapshot-sync')
    assert.equal(action.data['node-name'], 'n0')
    const overlay = action.data['snapshot-file'] ?? ''
    assert.match(overlay, /\/disk\.0-\d{14}\.qcow2$/)
    assert.equal(dirname(overlay), folder)
    assert.equal(readOrigin(directory, {})?.disks[0]?.state?.lengthBytes, 512)
  })

  it('lets the guest continue if its overlays fail, and says so', async () => {
    const qemu = await FakeQemu.start()
    qemu.disks = [disk('/x/disk')]
    qemu.stream = undefined
    qemu.answers['query-migrate'] = () => ({
      status:
        qemu.migrationStatus === 'active' ? 'pre-switchover' : (qemu.migrationStatus ?? 'none'),
    })
    qemu.answers['transaction'] = () => {
      throw new Error('No space left')
    }
    const { status, stderr, directory } = await park(qemu, '--keep-running', '--snapshot-disks')
    assert.equal(status, 1)
    assert.match(
      stderr,
      /QEMU refused transaction: No space left\. The guest continues in its QEMU/,
    )
    assert.equal(qemu.runState, 'running')
    assert.equal(qemu.capabilities.get('pause-before-switchover'), false)
    assert.throws(() => statSync(directory), { code: 'ENOENT' })
  })

  it('leaves everything as it was if QEMU refuses a setting', async () => {
    const qemu = await FakeQemu.start()
    qemu.answers['migrate-set-parameters'] = () => {
      throw new Error('bad parameter')
    }
    const before = new Map(qemu.capabilities)
    const { status, stderr } = await park(qemu)
    assert.equal(status, 1)
    assert.match(stderr, /QEMU refused migrate-set-parameters: bad parameter \[ERR_QMP_REFUSED\]/)
    assert.deepEqual(qemu.capabilities, before)
    assert(!qemu.commands.includes('migrate'))
  })

  it('lets the guest continue after a stream that is refused', async () => {
    const qemu = await FakeQemu.start()
    qemu.stream = Uint8Array.from(qemu.stream ?? []).fill(0xee, 64)
    qemu.endsAs = 'failed'
    qemu.errorDesc = 'Unable to write'
    qemu.runState = 'running'
    qemu.answers['migrate-start-postcopy'] = () => {
      qemu.runState = 'finish-migrate'
    }
    const { status, stderr, directory } = await park(qemu)
    assert.equal(status, 1)
    assert.match(stderr, /QEMU's migration is failed: Unable to write\. The guest continues in its/)
    assert.equal(qemu.runState, 'running')
    assert.equal(qemu.capabilities.get('multifd'), true)
    assert.throws(() => statSync(directory), { code: 'ENOENT' })
  })

  it('keeps the pages of a postcopy that breaks, and names the commands that continue', async () => {
    const qemu = await FakeQemu.start()
    qemu.stream = golden('postcopy-source').subarray(0, -4096)
    qemu.endsAs = 'postcopy-paused'
    const { status, stderr, directory } = await park(qemu)
    assert.equal(status, 1)
    assert.match(
      stderr,
      /The guest is stopped in its QEMU, .*: do not end it\. To continue: postcopy/,
    )
    assert.match(
      stderr,
      /--recover '.*vm".incomplete'; then, in QEMU's monitor: migrate -r tcp:127/,
    )
    assert(!qemu.commands.includes('cont'))
    // QEMU refuses to change its capabilities until the migration is over.
    assert.equal(qemu.commands.filter((name) => name === 'migrate-set-capabilities').length, 1)
    assert.equal(readOrigin(`${directory}.incomplete`, {})?.wasRunning, true)
  })

  it('reports a QEMU that ends in the middle', async () => {
    const qemu = await FakeQemu.start()
    qemu.stream = undefined
    qemu.answers['migrate-start-postcopy'] = () => {
      setImmediate(() => qemu.disconnect())
    }
    const { status, stderr } = await park(qemu)
    assert.equal(status, 1)
    assert.match(stderr, /QEMU does not answer any more: whether its guest still runs is not known/)
  })

  it('puts everything back when it is stopped before the switch', async () => {
    const qemu = await FakeQemu.start()
    qemu.stream = undefined
    const folder = await temporaryFolder()
    const directory = join(folder, 'vm')
    const parking = await RunningPark.prepare({ qmp: qemu.path, directory, after: 'never' })
    const run = parking.run()
    while (qemu.migrationStatus !== 'active') await sleep(5)
    await Promise.all([parking.close(), assert.rejects(run, /The guest continues in its QEMU/)])
    assert.equal(qemu.capabilities.get('multifd'), true)
    assert.deepEqual(readdirSync(folder), [])
  })

  it('refuses a folder for sockets whose path is too long, before it asks QEMU', async () => {
    const qemu = await FakeQemu.start()
    const { TMPDIR: before } = process.env
    process.env['TMPDIR'] = `/tmp/${'x'.repeat(90)}`
    try {
      const { status, stderr } = await runInside(['park', '--qemu', qemu.uri, '--to', 'x'])
      assert.equal(status, 1)
      assert.match(stderr, /the path has 121 bytes, .* at most 107.*\[ERR_INVALID_URI\]/)
    } finally {
      if (before === undefined) delete process.env['TMPDIR']
      else process.env['TMPDIR'] = before
    }
    assert.deepEqual(qemu.commands, [])
  })

  it('refuses a QEMU without a guest of its own, or with a migration', async () => {
    for (const [runState, migration, why] of [
      ['inmigrate', undefined, /state inmigrate/],
      ['postmigrate', 'completed', /has already been migrated/],
      ['running', 'postcopy-paused', /has a migration already \(postcopy-paused\)/],
    ] as const) {
      const qemu = await FakeQemu.start()
      Object.assign(qemu, { runState, migrationStatus: migration })
      const { status, stderr } = await park(qemu)
      assert.equal(status, 1)
      assert.match(stderr, why)
      assert.match(stderr, /ERR_QEMU_STATE/)
    }
  })

  it('refuses a QEMU that is too old or has no postcopy', async () => {
    const old = await FakeQemu.start()
    old.greeting = { QMP: { version: { qemu: { major: 2, minor: 5, micro: 1 } } } }
    assert.match((await park(old)).stderr, /QEMU 2\.5\.1 is too old.*\[ERR_QEMU_VERSION\]/)
    const without = await FakeQemu.start()
    without.capabilities.delete('postcopy-ram')
    assert.match((await park(without)).stderr, /no migration capability postcopy-ram/)
  })

  it('refuses options that do not fit, and sockets with long paths', async () => {
    const long = `unix:/${'x'.repeat(120)}`
    for (const [args, why] of [
      [['--qemu', long, '--to', 'x'], /121 bytes.*at most 107/],
      [['--qemu', 'tcp:h:1', '--to', 'x'], /give unix:PATH/],
      [['--qemu', 'unix:\ufffd', '--to', 'x'], /not UTF-8/],
      [['--qemu', 'unix:x'], /--to DIR is missing/],
      [['tcp:h:1', '--qemu', 'unix:x', '--to', 'x'], /cannot be combined with a URI/],
      [['--qemu', 'unix:x', '--to', 'x', '--quit', '--keep-running'], /exclude each other/],
      [['--qemu', 'unix:x', '--to', 'x', '--snapshot-disks'], /needs --keep-running/],
      [['tcp:h:1', '--to', 'x', '--after', 'now'], /--after needs --qemu/],
      [['--qemu', 'unix:x', '--to', 'x', '--after', '-1'], /Give milliseconds, now, or never/],
    ] as const) {
      const { status, stderr } = await runInside(['park', ...args])
      assert.notEqual(status, 0)
      assert.match(stderr, why)
    }
  })
})
