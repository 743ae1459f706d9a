/** A QEMU that sends no shared RAM (x-ignore-shared): devices alone are not a guest. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Destination } from '../../../src/destination/destination.js'
import type { MigrationState } from '../../../src/migration/states.js'
import { temporaryFolder } from '../../cli/support.js'
import { cleanups } from '../../support/cleanup.js'
import { requires } from '../../support/requires.js'
import { TestMachine } from '../../support/test-machine.js'
import { Qemu } from './qemu.js'
import { countingFirmware, counts, listen } from './support.js'

const MIB = 2 ** 20

interface End {
  readonly uri: string | undefined
  readonly state: MigrationState
  readonly error?: Error | undefined
  readonly done: Promise<unknown>
}

const ends: Record<string, (folder: string) => Promise<End>> = {
  park: (folder) => listen({ directory: join(folder, 'vm') }),
  Destination: async () => {
    const machine = new TestMachine({ blocks: { m: 32 * MIB } })
    const destination = await Destination.listen(machine, { uri: 'tcp:127.0.0.1:0' })
    cleanups.add(() => destination.close())
    return destination
  },
}

async function startShared(folder: string, ...capabilities: string[]): Promise<Qemu> {
  const memory = `memory-backend-file,id=m,size=32M,mem-path=${join(folder, 'shared')},share=on`
  const qemu = await Qemu.start(folder, [
    ...['-machine', 'pc,memory-backend=m', '-object', memory, '-m', '32'],
    ...countingFirmware(folder, 16 * MIB),
  ])
  await counts(qemu)
  await qemu.enable('x-ignore-shared', ...capabilities)
  await qemu.limit({ 'max-bandwidth': 0 })
  return qemu
}

async function assertRefused(end: End, folder: string): Promise<void> {
  await assert.rejects(end.done, {
    code: 'ERR_STREAM_CAPABILITY',
    message: /turn off the capability x-ignore-shared on the source/,
  })
  assert.equal(end.state, 'failed')
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('vm')),
    [],
  )
}

describe('a QEMU with x-ignore-shared', function () {
  before(function () {
    requires(this, 'qemu')
  })

  for (const [name, listenIn] of Object.entries(ends)) {
    it(`and return-path is refused by ${name} before it has completed, its guest runs on`, async () => {
      const folder = await temporaryFolder()
      const qemu = await startShared(folder, 'return-path')
      const end = await listenIn(folder)
      await qemu.execute('migrate', { uri: end.uri })
      await assertRefused(end, folder)
      assert.equal(await qemu.reached('failed', 'completed'), 'failed')
      await qemu.runs()
      await counts(qemu, qemu.serial.length)
    })

    it(`alone is refused by ${name}; if QEMU reports completed, cont resumes its guest`, async () => {
      const folder = await temporaryFolder()
      const qemu = await startShared(folder)
      const end = await listenIn(folder)
      await qemu.execute('migrate', { uri: end.uri })
      await assertRefused(end, folder)
      if ((await qemu.reached('failed', 'completed')) === 'completed') await qemu.execute('cont')
      await qemu.runs()
      await counts(qemu, qemu.serial.length)
    })
  }

  it('refuses postcopy itself', async () => {
    const folder = await temporaryFolder()
    await assert.rejects(startShared(folder, 'postcopy-ram'), /not compatible with ignore-shared/)
  })
})
