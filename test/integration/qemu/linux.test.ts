/** A real Linux guest is parked from one QEMU, and resumed in three others. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { Cli, runCli, temporaryFolder } from '../../cli/support.js'
import { PUSH_NEVER } from '../../../src/migration/options.js'
import { WorkingSet, resume } from '../../../src/park/index.js'
import { cleanups } from '../../support/cleanup.js'
import { requires } from '../../support/requires.js'
import { FILE_HASH, linuxGuest } from './linux.js'
import { Qemu } from './qemu.js'
import { fingerprint, openParked } from './support.js'

/** The latest count; every hash is checked first. */
function lastTick(serial: string): number {
  const ticks = [...serial.matchAll(/tick (\d+) (\w+)\r?\n/g)]
  for (const [line, , hash] of ticks) assert.equal(hash, FILE_HASH, line)
  return Number(ticks.at(-1)?.[1] ?? 0)
}

async function startsWaiting(folder: string, machine: readonly string[]): Promise<Qemu> {
  const qemu = await Qemu.start(folder, [...machine, '-incoming', 'defer'])
  await qemu.enable('postcopy-ram')
  return qemu
}

/** The guest continues where it was parked, for some ticks, and not from boot. */
async function goesOn(qemu: Qemu, from: number, ticks = 3): Promise<void> {
  await qemu.says(new RegExp(`tick ${from + ticks} \\w+\\r?\\n`))
  assert(lastTick(qemu.serial) >= from + ticks)
  assert.doesNotMatch(qemu.serial, /tick 1 /)
}

/** Parks a ticking guest with the command. */
async function parkLinux(): Promise<{
  folder: string
  directory: string
  machine: string[]
  parkedAt: number
}> {
  const folder = await temporaryFolder()
  const directory = join(folder, 'vm')
  const machine = ['-machine', 'pc', '-m', '160', ...linuxGuest(folder)]
  const source = await Qemu.start(folder, machine)
  await source.says(/tick 2 \w+\r?\n/)

  const park = new Cli(['park', 'tcp:127.0.0.1:0', '--to', directory, '--json'])
  const [, uri = ''] = await park.seen(/waiting for a VM on (\S+)/)
  await source.enable('postcopy-ram')
  await source.limit({ 'max-bandwidth': 50 * 2 ** 20 })
  await source.execute('migrate', { uri })
  await park.seen(/receiving a VM/)
  await source.execute('migrate-start-postcopy')
  const { status, stdout } = await park.ended
  assert.equal(status, 0)
  const result = JSON.parse(stdout) as Record<string, unknown>
  assert.equal(result['way'], 'postcopy')
  assert.equal(result['machineType'], 'pc-i440fx-7.2')
  assert.equal(await source.reached('completed'), 'completed')
  const parkedAt = lastTick(source.serial)
  await source.kill()
  return { folder, directory, machine, parkedAt }
}

describe('a Linux guest', function () {
  this.timeout(180_000)
  before(function () {
    requires(this, 'qemuPostcopy', 'linuxGuest')
  })

  it('continues in other QEMUs, repeatedly, and in two at once', async () => {
    const { folder, directory, machine, parkedAt } = await parkLinux()
    const before = fingerprint(directory)

    const first = await startsWaiting(folder, machine)
    const uris = ['first', 'second', 'third'].map((name) => `unix:${join(folder, name)}`)
    await first.execute('migrate-incoming', { uri: uris[0] })
    const once = await runCli(['resume', directory, uris[0] ?? '', '--json'])
    assert.equal(once.status, 0, once.stderr)
    const clone = JSON.parse(once.stdout) as { status: string; stoppedMs: number }
    assert.equal(clone.status, 'completed')
    assert(clone.stoppedMs > 0)
    await goesOn(first, parkedAt)
    await first.kill()

    const pair = [await startsWaiting(folder, machine), await startsWaiting(folder, machine)]
    for (const [index, qemu] of pair.entries()) {
      await qemu.execute('migrate-incoming', { uri: uris[index + 1] })
    }
    const twice = await runCli(['resume', directory, ...uris.slice(1), '--on-demand=200'])
    assert.equal(twice.status, 0, twice.stderr)
    assert.match(twice.stderr, /the guest runs at unix:\S+second, [\d.]+ ms after connecting/)
    for (const qemu of pair) {
      await goesOn(qemu, parkedAt)
      assert.equal(await qemu.reached('completed'), 'completed')
    }
    assert.deepEqual(fingerprint(directory), before)
  })

  it('requests a tenth of the pages in the second resume on demand', async () => {
    const { folder, directory, machine, parkedAt } = await parkLinux()
    const vm = openParked(directory)
    /** How many pages a clone has requested until it has ticked a few times. */
    const asked = async (name: string, workingSet?: WorkingSet): Promise<number> => {
      const uri = `unix:${join(folder, name)}`
      const qemu = await startsWaiting(folder, machine)
      await qemu.execute('migrate-incoming', { uri })
      const clone = resume(vm, {
        uri,
        parameters: { 'x-push-after-quiet-ms': PUSH_NEVER },
        ...(workingSet === undefined ? {} : { workingSet }),
      })
      cleanups.add(() => clone.close())
      await goesOn(qemu, parkedAt)
      const { requestedPages, remainingPages } = clone.counters
      assert(remainingPages > 0, 'nothing else was pushed')
      // Recorded for longer than counted, because other activity of the guest
      // depends on the host's speed.
      if (workingSet !== undefined) await goesOn(qemu, parkedAt, 8)
      workingSet?.save()
      await qemu.kill()
      await clone.close()
      return requestedPages
    }
    const first = await asked('first', WorkingSet.open(vm))
    const again = await asked('again', WorkingSet.open(vm))
    const without = await asked('without')
    assert(again <= first / 10, `${first} pages requested at first, ${again} then`)
    // The working set makes the difference.
    assert(without > first / 2, `${without} without it`)
  })
})
