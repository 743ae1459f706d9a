/** Failures: which end has the guest afterwards, and what is left on disk. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Park, ParkedVm, explainRefusal, readManifest, resume } from '../../../src/park/index.js'
import type { Source } from '../../../src/source/source.js'
import { Cli, temporaryFolder } from '../../cli/support.js'
import { cleanups } from '../../support/cleanup.js'
import { requires } from '../../support/requires.js'
import { Qemu } from './qemu.js'
import {
  countingFirmware,
  counts,
  countingPc,
  fileHas,
  fingerprint,
  listen,
  memoryOf,
  openParked,
  parkedRam,
  settled,
} from './support.js'

const MIB = 2 ** 20

/** The guest still runs and counts. */
async function goesOn(qemu: Qemu): Promise<void> {
  await qemu.runs()
  await counts(qemu, qemu.serial.length)
}

async function startSource(folder: string): Promise<Qemu> {
  const source = await Qemu.start(folder, countingPc(folder))
  await counts(source)
  return source
}

/** Starts a migration that is slow enough to be disturbed. */
async function sendSlowly(source: Qemu, park: Park, switched: boolean): Promise<void> {
  if (switched) await source.enable('postcopy-ram')
  await source.limit({ 'max-bandwidth': 5 * MIB, 'max-postcopy-bandwidth': 5 * MIB })
  await source.execute('migrate', { uri: park.uri })
  if (switched) {
    await source.execute('migrate-start-postcopy')
    await until(() => park.state === 'postcopy-active')
  } else {
    await until(() => park.counters.normalPages > 0)
  }
  await sleep(200)
}

async function until(isSo: () => boolean): Promise<void> {
  for (const end = Date.now() + 20_000; !isSo();) {
    assert(Date.now() < end, 'in time')
    await sleep(10)
  }
}

function isGone(directory: string): void {
  const left = ['', '.partial', '.incomplete'].filter((end) => existsSync(directory + end))
  assert.deepEqual(left, [])
}

async function parkOne(folder: string): Promise<string> {
  const directory = join(folder, 'vm')
  const source = await startSource(folder)
  const park = await listen({ directory })
  await source.limit({ 'max-bandwidth': 0 })
  await source.execute('migrate', { uri: park.uri })
  await park.done
  await source.kill()
  return directory
}

/** Resolves with the last state of a source. */
async function resumed(clone: Source): Promise<string> {
  cleanups.add(() => clone.close())
  await new Promise<void>((resolve) => {
    clone.on('state', (state) => {
      if (state === 'postcopy-paused') resolve()
    })
    clone.done.then(resolve, () => resolve())
  })
  return clone.state
}

describe('a park that is disturbed', function () {
  before(function () {
    requires(this, 'qemu')
  })

  it('leaves nothing if QEMU is killed in precopy', async () => {
    const folder = await temporaryFolder()
    const directory = join(folder, 'vm')
    const source = await startSource(folder)
    const park = await listen({ directory })
    await sendSlowly(source, park, false)
    await source.kill()
    assert.equal(await settled(park), 'failed')
    assert.match(park.error?.code ?? '', /ECONNRESET|ERR_CONNECTION_CLOSED/)
    isGone(directory)
  })

  it('leaves the guest running at QEMU if park is stopped in precopy', async () => {
    const folder = await temporaryFolder()
    const directory = join(folder, 'vm')
    const source = await startSource(folder)
    const park = await listen({ directory })
    await sendSlowly(source, park, false)
    park.stop()
    assert.equal(await settled(park), 'failed')
    assert.match(park.error?.message ?? '', /Nothing is left on disk\. The source has the guest/)
    isGone(directory)
    await goesOn(source)
  })

  for (const capabilities of [[], ['postcopy-ram']]) {
    it(`reports that QEMU has its guest after migrate_cancel, with ${capabilities.join() || 'no capability'}`, async () => {
      const folder = await temporaryFolder()
      const directory = join(folder, 'vm')
      const source = await startSource(folder)
      const park = await listen({ directory })
      await source.enable(...capabilities)
      await sendSlowly(source, park, false)
      await source.execute('migrate_cancel')
      assert.equal(await settled(park), 'failed')
      assert.match(park.error?.message ?? '', /Nothing is left on disk\. The source has the guest/)
      isGone(directory)
      await goesOn(source)
    })
  }

  it('keeps the received pages if QEMU is killed in postcopy, and does not accept them as a VM', async () => {
    const folder = await temporaryFolder()
    const directory = join(folder, 'vm')
    const source = await startSource(folder)
    const park = await listen({ directory })
    await sendSlowly(source, park, true)
    await source.kill()
    assert.equal(await settled(park), 'postcopy-paused')
    assert.match(park.error?.message ?? '', /vm\.incomplete/)
    const left = `${directory}.incomplete`
    const manifest = readManifest(left)
    assert.equal(manifest.state, 'incomplete')
    assert(manifest.statistics.unsentPages > 0)
    assert.deepEqual(
      manifest.blocks.filter(({ receivedFile = '' }) => !existsSync(join(left, receivedFile))),
      [],
    )
    assert.throws(() => ParkedVm.open(left), { code: 'ERR_PARKED_INCOMPLETE' })
    assert(!existsSync(directory))
  })

  it('pauses QEMU if park is stopped in postcopy, and recovers, also after a second break', async function () {
    requires(this, 'qemuPostcopy')
    const folder = await temporaryFolder()
    const directory = join(folder, 'vm')
    const source = await startSource(folder)
    const park = await listen({ directory })
    await sendSlowly(source, park, true)
    park.stop()
    assert.equal(await settled(park), 'postcopy-paused')
    assert.equal(await source.reached('postcopy-paused'), 'postcopy-paused')

    // A second break, and then a recovery to the end.
    for (const isLast of [false, true]) {
      const uri = `unix:${join(folder, `again-${isLast}`)}`
      const again = await Park.recover({ uri, directory: `${directory}.incomplete` })
      cleanups.add(() => again.close())
      if (isLast) await source.limit({ 'max-postcopy-bandwidth': 0 })
      await source.execute('migrate', { uri, resume: true })
      if (!isLast) {
        await until(() => again.counters.normalPages > 100)
        again.stop()
        assert.equal(await settled(again), 'postcopy-paused')
        await source.reached('postcopy-paused')
        continue
      }
      await again.done
      assert.equal(await source.reached('completed'), 'completed')
    }
    const memory = await memoryOf(source, folder, MIB, 31 * MIB)
    const vm = openParked(directory)
    assert(fileHas(memory, parkedRam(vm, directory, 'pc.ram', MIB)))
    await source.kill()
    const { qemu, uri } = await Qemu.incoming(folder, countingPc(folder))
    assert.equal(await resumed(resume(vm, { uri })), 'completed')
    await counts(qemu)
  })

  it('recovers after the park process was killed', async () => {
    const folder = await temporaryFolder()
    const directory = join(folder, 'vm')
    const source = await startSource(folder)
    const cli = new Cli(['park', 'tcp:127.0.0.1:0', '--to', directory])
    const [, uri = ''] = await cli.seen(/waiting for a VM on (\S+)/)
    await source.enable('postcopy-ram')
    await source.limit({ 'max-bandwidth': 5 * MIB, 'max-postcopy-bandwidth': 5 * MIB })
    await source.execute('migrate', { uri })
    await source.execute('migrate-start-postcopy')
    await cli.seen(/postcopy: its device state is on disk/)
    await sleep(300)
    cli.child.kill('SIGKILL')
    await source.reached('postcopy-paused')

    const again = new Cli(['park', 'tcp:127.0.0.1:0', '--recover', `${directory}.incomplete`])
    const [, second = ''] = await again.seen(/waiting for a VM on (\S+)/)
    await source.limit({ 'max-postcopy-bandwidth': 0 })
    await source.execute('migrate', { uri: second, resume: true })
    const { status, stderr, stdout } = await again.ended
    assert.equal(status, 0, stderr)
    assert.match(stdout, new RegExp(`^parked in ${directory}: `))
    assert.equal(await source.reached('completed'), 'completed')
    const memory = await memoryOf(source, folder, MIB, 31 * MIB)
    const vm = openParked(directory)
    assert(fileHas(memory, parkedRam(vm, directory, 'pc.ram', MIB)))
  })

  it('fails on a full disk, and QEMU continues', async function () {
    requires(this, 'root')
    const folder = await temporaryFolder()
    const small = join(folder, 'small')
    mkdirSync(small)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8M', 'tmpfs', small])
    cleanups.add(() => execFileSync('umount', [small]))
    const source = await startSource(folder)
    const park = await listen({ directory: join(small, 'vm') })
    await source.limit({ 'max-bandwidth': 0 })
    await source.execute('migrate', { uri: park.uri })
    assert.equal(await settled(park), 'failed')
    assert.equal(park.error?.code, 'ENOSPC')
    assert.deepEqual(readdirSync(small), [])
    await goesOn(source)
  })

  it('accepts one of two sources; the other continues with its guest', async () => {
    const folder = await temporaryFolder()
    const first = await startSource(folder)
    const second = await startSource(folder)
    const park = await listen({ directory: join(folder, 'vm') })
    await first.limit({ 'max-bandwidth': 10 * MIB })
    await first.execute('migrate', { uri: park.uri })
    await until(() => park.counters.normalPages > 0)
    await second.execute('migrate', { uri: park.uri })
    assert.equal(await second.reached('failed', 'completed'), 'failed')
    await goesOn(second)
    await first.limit({ 'max-bandwidth': 0 })
    await park.done
    assert.equal(await first.reached('completed'), 'completed')
  })

  const unfit = [
    { capability: 'xbzrle', pattern: /capability xbzrle/, needsSecondPass: true },
    { capability: 'compress', pattern: /capability compress/ },
    { capability: 'multifd', pattern: /capability multifd/ },
    { capability: 'x-ignore-shared', pattern: /capability x-ignore-shared/ },
  ]
  for (const { capability, pattern, needsSecondPass = false } of unfit) {
    it(`advises to turn ${capability} off`, async () => {
      const folder = await temporaryFolder()
      const source = await startSource(folder)
      const park = await listen({ directory: join(folder, 'vm') })
      await source.enable(capability)
      await source.limit({
        'max-bandwidth': needsSecondPass ? 100 * MIB : 0,
        'downtime-limit': needsSecondPass ? 1 : 300,
      })
      await source.execute('migrate', { uri: park.uri })
      assert.equal(await settled(park), 'failed')
      assert.match(park.error?.message ?? '', pattern)
      isGone(join(folder, 'vm'))
      await goesOn(source)
    })
  }
})

interface Mismatch {
  title: string
  args: (folder: string) => string[]
  capabilities?: readonly string[]
}

describe('a resume that is disturbed', function () {
  before(function () {
    requires(this, 'qemuPostcopy')
  })

  const mismatches: readonly Mismatch[] = [
    {
      title: 'other RAM',
      args: (folder: string) => ['-machine', 'pc', '-m', '96', ...firmware(folder)],
    },
    {
      title: 'another machine',
      args: (folder: string) => ['-machine', 'q35', '-m', '32', ...firmware(folder)],
    },
    { title: 'no postcopy-ram', args: countingPc, capabilities: [] },
  ]
  const firmware = (folder: string): string[] => countingFirmware(folder, 16 * MIB)

  it('is refused by a QEMU that does not match, with the reason, and the VM is unchanged', async () => {
    const folder = await temporaryFolder()
    const directory = await parkOne(folder)
    const before = fingerprint(directory)
    const vm = openParked(directory)
    for (const { title, args, capabilities } of mismatches) {
      const { qemu, uri } = await Qemu.incoming(folder, args(folder), capabilities)
      const clone = resume(vm, { uri })
      assert.notEqual(await resumed(clone), 'completed', title)
      await qemu.ends()
      assert(clone.error !== undefined, title)
      assert.equal(clone.counters.downtimeMs, 0, `${title}: the guest did not run`)
      const { message } = explainRefusal(vm, clone.error, { stage: 'setup' })
      assert.match(message, /"pc-i440fx-7\.2" with the RAM blocks "pc\.ram" of 32\.0 MiB/, title)
    }
    assert.deepEqual(fingerprint(directory), before)
  })

  it('leaves the VM unchanged if QEMU is killed while its memory is sent', async () => {
    const folder = await temporaryFolder()
    const directory = await parkOne(folder)
    const before = fingerprint(directory)
    const vm = openParked(directory)
    const first = await Qemu.incoming(folder, countingPc(folder))
    const parameters = { 'max-postcopy-bandwidth': 5 * MIB }
    const clone = resume(vm, { uri: first.uri, parameters })
    const end = resumed(clone)
    await until(() => clone.state === 'postcopy-active')
    await first.qemu.kill()
    assert.equal(await end, 'postcopy-paused')
    assert.deepEqual(fingerprint(directory), before)

    const second = await Qemu.incoming(folder, countingPc(folder))
    assert.equal(await resumed(resume(vm, { uri: second.uri })), 'completed')
    await counts(second.qemu)
  })

  it('fails if no QEMU listens', async () => {
    const folder = await temporaryFolder()
    const vm = openParked(await parkOne(folder))
    const clone = resume(vm, { uri: `unix:${join(folder, 'missing')}` })
    assert.equal(await resumed(clone), 'failed')
    assert.equal(clone.error?.code, 'ENOENT')
  })
})
