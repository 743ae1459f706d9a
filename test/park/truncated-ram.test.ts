/** RAM files that become unreadable while they are sent. */
import assert from 'node:assert/strict'
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Destination } from '../../src/destination/destination.js'
import { Park, ParkedVm, recover, resume } from '../../src/park/index.js'
import { Source } from '../../src/source/source.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import { reached } from '../support/migration.js'
import { TestMachine } from '../support/test-machine.js'

const MIB = 2 ** 20
const capabilities = { 'postcopy-ram': true }

async function parkMachine(machine: TestMachine): Promise<string> {
  const folder = await temporaryFolder()
  const directory = join(folder, 'vm')
  const park = await Park.listen({ uri: `unix:${join(folder, 'socket')}`, directory })
  cleanups.add(() => park.close())
  const source = Source.migrate(machine, { uri: park.uri ?? '' })
  cleanups.add(() => source.close())
  await Promise.all([source.done, park.done])
  return directory
}

async function startClone(
  vm: ParkedVm,
): Promise<{ there: TestMachine; destination: Destination; source: Source }> {
  const there = new TestMachine({ blocks: { ram: MIB } })
  const destination = await Destination.listen(there, { uri: 'tcp:127.0.0.1:0', capabilities })
  cleanups.add(() => destination.close())
  const source = resume(vm, { uri: destination.uri })
  cleanups.add(() => source.close())
  return { there, destination, source }
}

describe('a file of RAM that is truncated after its VM was opened', () => {
  it('pauses each clone with an error that names file and offset; a recovery continues', async () => {
    const here = new TestMachine({ blocks: { ram: MIB } })
    here.fill()
    here.start()
    const directory = await parkMachine(here)
    const file = join(directory, 'ram-0')
    const bytes = readFileSync(file)
    const vm = ParkedVm.open(directory)
    cleanups.add(() => vm.close())
    truncateSync(file, MIB / 2)

    const clones = await Promise.all([startClone(vm), startClone(vm)])
    for (const { source, destination } of clones) {
      await Promise.all([
        reached(source, 'postcopy-paused'),
        reached(destination, 'postcopy-paused'),
      ])
      assert.equal(source.error?.code, 'ENODATA')
      assert.match(source.error.message, /ram-0, 4096 bytes at offset 524288.*it was truncated/)
    }

    writeFileSync(file, bytes)
    for (const { there, destination } of clones) {
      const source = recover(vm, { uri: await destination.recover() })
      cleanups.add(() => source.close())
      await Promise.all([source.done, destination.done])
      assert(there.content('ram').equals(here.content('ram')))
    }
  })
})
