/** The source's unsent pages are on disk: its process may die after the switch. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { EventEmitter } from 'node:events'
import { join } from 'node:path'
import type { Destination } from '../../src/destination/destination.js'
import { Guest } from '../../src/guest/index.js'
import type { MigrationState } from '../../src/migration/states.js'
import { ParkedVm, Spill, recover } from '../../src/park/index.js'
import type { Source } from '../../src/source/source.js'
import { Cli, runCli, temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import { lendHugePages } from '../support/huge-pages.js'
import {
  codeOf,
  ended,
  guestPair,
  listenFor,
  migrateTo,
  postcopy,
  reached,
} from '../support/migration.js'
import { requires } from '../support/requires.js'

interface Spilled {
  readonly there: Guest
  readonly source: Source
  readonly spill: Spill
  readonly destination: Destination
  readonly directory: string
}

/** In postcopy, with nearly all pages unsent. */
async function startSpilled(
  directory: string,
  memory: 'anon' | 'memfd' | 'hugetlb' = 'anon',
): Promise<Spilled> {
  // Pages that the guest does not touch are neither requested nor pushed
  // until the limit is raised.
  const options = { ram: '16M', vcpus: 2, workload: 'random:hot=2M,writes=50,rate=50000', memory }
  const { here, there } = await guestPair(options)
  here.start()
  const destination = await listenFor(there, { capabilities: postcopy })
  const parameters = { 'max-postcopy-bandwidth': 1 }
  const source = migrateTo(destination.uri, here, { capabilities: postcopy, parameters })
  const spill = Spill.follow(source, directory)
  cleanups.add(() => spill.close())
  source.startPostcopy()
  await Promise.all([source, destination].map((end) => reached(end, 'postcopy-active')))
  return { there, source, spill, destination, directory }
}

/** The same, after the end of the source. */
async function loseSource(memory?: 'anon' | 'memfd' | 'hugetlb'): Promise<Spilled> {
  const spilled = await startSpilled(join(await temporaryFolder(), 'owed'), memory)
  assert.deepEqual(await spilled.spill.written, { path: `${spilled.directory}.incomplete` })
  await spilled.source.close()
  await spilled.spill.close()
  await ended(spilled.destination)
  assert.equal(spilled.destination.state, 'postcopy-paused')
  return spilled
}

function openSpill({ directory }: Spilled): ParkedVm {
  const vm = ParkedVm.open(`${directory}.incomplete`, { forRecovery: true })
  cleanups.add(() => vm.close())
  return vm
}

/** The part of a source that a spill uses; it has no RAM, only devices. */
class PostcopySource extends EventEmitter {
  readonly owed = {
    machineType: 'test',
    configuration: new Uint8Array(),
    ramSectionId: 1,
    devices: new Uint8Array(),
    blocks: [],
  } satisfies Source['owed']
  state: MigrationState = 'none'

  enter(state: MigrationState): void {
    this.state = state
    this.emit('state', state)
  }
}

async function assertWhole(guest: Guest): Promise<void> {
  await guest.stop()
  const report = await guest.verify()
  assert.equal(report.verified, true, JSON.stringify(report.findings))
}

describe('a source that spills', () => {
  lendHugePages(32)

  for (const memory of ['anon', 'memfd', 'hugetlb'] as const) {
    it(`can be lost: the destination receives the rest from disk, ${memory}`, async function () {
      if (memory === 'hugetlb') requires(this, 'hugePages')
      const spilled = await loseSource(memory)
      const source = recover(openSpill(spilled), { uri: await spilled.destination.recover() })
      cleanups.add(() => source.close())
      await Promise.all([source.done, spilled.destination.done])
      assert(source.counters.normalPages > 0)
      await assertWhole(spilled.there)
    })
  }

  it('leaves nothing on disk when the destination has everything', async () => {
    const folder = await temporaryFolder()
    const { source, destination, spill } = await startSpilled(join(folder, 'owed'))
    await spill.written
    assert.deepEqual(readdirSync(folder), ['owed.incomplete'])
    source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await Promise.all([source.done, destination.done])
    await spill.close()
    assert.deepEqual(readdirSync(folder), [])
  })

  it('leaves no spill if the migration completes before it is written', async () => {
    const folder = await temporaryFolder()
    const source = new PostcopySource()
    const spill = Spill.follow(source as unknown as Source, join(folder, 'owed'))
    cleanups.add(() => spill.close())
    // Within one turn of the event loop, so that the spill's worker cannot be ready in between.
    source.enter('postcopy-active')
    source.enter('completed')
    assert.deepEqual(await spill.written, { isUnneeded: true })
    await spill.close()
    assert.deepEqual(readdirSync(folder), [])
  })

  it('leaves nothing on disk if it is closed before all pages are written', async () => {
    const folder = await temporaryFolder()
    const source = new PostcopySource()
    const spill = Spill.follow(source as unknown as Source, join(folder, 'owed'))
    source.enter('postcopy-active')
    await spill.close()
    const end = await spill.written
    assert('error' in end && end.error.code === 'ERR_CLOSED', JSON.stringify(end))
  })

  it('does not overwrite an existing directory', async () => {
    const folder = await temporaryFolder()
    mkdirSync(join(folder, 'owed.incomplete'))
    const here = await Guest.create({ ram: '8M' })
    cleanups.add(() => here.close())
    const source = migrateTo('tcp:127.0.0.1:1', here)
    assert.throws(() => Spill.follow(source, join(folder, 'owed')), { code: 'ERR_PARKED_EXISTS' })
    await ended(source)
  })

  it('removes only its own files, if another guest spills to the same directory', async () => {
    const folder = await temporaryFolder()
    const { here, there } = await guestPair({ ram: '8M' })
    here.start()
    const destination = await listenFor(there, { capabilities: postcopy })
    const source = migrateTo(destination.uri, here, { capabilities: postcopy })
    const spill = Spill.follow(source, join(folder, 'owed'))
    cleanups.add(() => spill.close())
    // Left by another VM, and created after this spill has checked the folder.
    const others = ['owed.incomplete', 'owed.partial']
    for (const name of others) mkdirSync(join(folder, name))
    source.startPostcopy()
    await Promise.all([source.done, destination.done])
    const end = await spill.written
    assert('error' in end && end.error.code === 'ERR_PARKED_EXISTS', JSON.stringify(end))
    await spill.close()
    assert.deepEqual(readdirSync(folder).sort(), others)
  })

  it('does not remove a directory that has replaced its own', async () => {
    const folder = await temporaryFolder()
    const { source, destination, spill } = await startSpilled(join(folder, 'owed'))
    await spill.written
    renameSync(join(folder, 'owed.incomplete'), join(folder, 'kept'))
    mkdirSync(join(folder, 'owed.incomplete'))
    source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await Promise.all([source.done, destination.done])
    await spill.close()
    assert.deepEqual(readdirSync(folder).sort(), ['kept', 'owed.incomplete'])
  })

  it('reports a full disk, leaves nothing there, and continues the migration', async function () {
    requires(this, 'root')
    const small = await temporaryFolder()
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1M', 'tmpfs', small])
    cleanups.add(() => execFileSync('umount', [small]))
    const { source, destination, spill, there } = await startSpilled(join(small, 'owed'))
    const end = await spill.written
    assert('error' in end && end.error.code === 'ENOSPC', JSON.stringify(end))
    assert.deepEqual(readdirSync(small), [])
    source.setParameters({ 'max-postcopy-bandwidth': 0 })
    await Promise.all([source.done, destination.done])
    await assertWhole(there)
  })

  it('cannot be continued from a spill without one page: the destination stays paused', async () => {
    const spilled = await loseSource()
    const path = join(`${spilled.directory}.incomplete`, 'received-0')
    const received = readFileSync(path)
    writeFileSync(path, received.fill(0, received.length / 2, (received.length * 3) / 4))
    const source = recover(openSpill(spilled), { uri: await spilled.destination.recover() })
    cleanups.add(() => source.close())
    await reached(source, 'postcopy-paused')
    assert.equal(codeOf(source), 'ERR_PEER_BITMAP')
    await reached(spilled.destination, 'postcopy-paused')
  })

  it('can be a killed process: resume --recover continues', async () => {
    const folder = await temporaryFolder()
    const options = { ram: '16M', vcpus: 1 }
    const there = await Guest.create({ ...options, incoming: true })
    cleanups.add(() => there.close())
    const destination = await listenFor(there, { capabilities: postcopy })
    const owed = join(folder, 'owed')
    const guest = [
      'guest',
      '--ram',
      '16M',
      '--workload',
      'random:writes=50,rate=50000',
      '--spill',
      owed,
    ]
    const cli = new Cli([...guest, '--capability', 'postcopy-ram'])
    cli.type(
      'migrate_set_parameter max-postcopy-bandwidth 1048576',
      `migrate -d ${destination.uri}`,
      'migrate_start_postcopy',
    )
    await cli.seen(
      /are on disk, in .*owed\.incomplete: .* postcopy resume --recover .*incomplete URI/,
    )
    cli.child.kill('SIGKILL')
    await ended(destination)
    assert.equal(destination.state, 'postcopy-paused')
    const uri = await destination.recover()
    const { status, stdout, stderr } = await runCli([
      'resume',
      '--recover',
      `${owed}.incomplete`,
      uri,
    ])
    assert.equal(status, 0, stdout + stderr)
    await reached(destination, 'completed')
    await assertWhole(there)
    assert.equal(existsSync(`${owed}.incomplete`), true)
  })
})
