/**
 * One migration of a machine at a time; and invalid options are refused before anything begins.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { Destination } from '../../src/destination/destination.js'
import { MachineError } from '../../src/errors.js'
import { MemoryRegion } from '../../src/kernel/index.js'
import type { MachineBlock, MigratableMachine } from '../../src/migration/machine.js'
import { Park, ParkedVm } from '../../src/park/index.js'
import { Source, type SourceOptions } from '../../src/source/index.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import {
  ended,
  listenFor,
  migratePair,
  migrateTo,
  postcopy,
  reached,
  startPair,
} from '../support/migration.js'
import { machines } from '../support/machine-pair.js'
import { TestMachine } from '../support/test-machine.js'
import { watchWorkers } from '../support/workers.js'

const MIB = 2 ** 20
const blocks = { ram: MIB }
const slow = { 'max-bandwidth': 1, 'max-postcopy-bandwidth': 1 } as const
const owned = { code: 'ERR_STATE_MACHINE_OWNED' } as const
/** No process listens there, and no connection is made. */
const uri = 'tcp:127.0.0.1:1'

/** Another machine with the memory of `machine`. */
function sameMemory(machine: TestMachine): TestMachine {
  const other = new TestMachine({ blocks: {} })
  const shared = machine.blocks.map(({ region, ...block }) => {
    const again = MemoryRegion.attach(region.id)
    cleanups.add(() => again.close())
    return { ...block, region: again }
  })
  return Object.assign(other, { blocks: shared })
}

async function assertOwned(machine: TestMachine): Promise<void> {
  for (const one of [machine, sameMemory(machine)]) {
    assert.throws(() => Source.migrate(one, { uri, dirtyLog: 'none' }), owned)
    assert.throws(() => Source.takeOver(one, { uri }), owned)
    await assert.rejects(Destination.listen(one, { uri: 'tcp:127.0.0.1:0' }), owned)
  }
}

describe('a machine in a migration', () => {
  it('cannot be sent or received by another migration, at either end, in any state', async () => {
    const { here, there } = machines(blocks)
    const { source, destination } = await startPair(here, there, {
      capabilities: postcopy,
      parameters: slow,
      source: { dirtyLog: 'none' },
    })
    const both = async (): Promise<void> => {
      await assertOwned(here)
      await assertOwned(there)
    }
    await both()
    await reached(source, 'active')
    await both()
    source.startPostcopy()
    await Promise.all([reached(source, 'postcopy-active'), reached(destination, 'postcopy-active')])
    await both()
    source.pause()
    await Promise.all([ended(source), ended(destination)])
    await both()
    assert.deepEqual([here.running, there.running], [false, true])
  })

  it('is free again after that has failed, at both ends', async () => {
    const { here, there } = machines(blocks)
    const { source, destination } = await startPair(here, there, { parameters: slow })
    await reached(source, 'active')
    source.cancel()
    await Promise.all([ended(source), ended(destination)])
    await migratePair(here, there)
  })

  it('is free at a completed destination, and can migrate on', async () => {
    const { here, there } = machines(blocks)
    const first = await migratePair(here, there)
    await assertOwned(here)
    await first.source.close()
    await migratePair(there, here)
    assert.deepEqual([here.running, there.running], [false, true].reverse())
  })

  it('is free at a completed source after the guest is taken back', async () => {
    const { here, there } = machines(blocks)
    const { source } = await migratePair(here, there)
    source.takeBack()
    await migratePair(here, new TestMachine({ blocks }))
  })

  it('cannot be taken back after another migration has taken it', async () => {
    const { here, there } = machines(blocks)
    const { source } = await migratePair(here, there)
    await source.close()
    await listenFor(here)
    assert.throws(() => source.takeBack(), owned)
  })

  it('is not free at a destination that was closed while pages were missing', async () => {
    const { here, there } = machines(blocks)
    const { source, destination } = await startPair(here, there, {
      capabilities: postcopy,
      parameters: slow,
    })
    source.startPostcopy()
    await reached(destination, 'postcopy-active')
    await destination.close()
    await ended(source)
    await assertOwned(there)
  })

  it('is free after a migration that could not start', async () => {
    const { here, there } = machines(blocks)
    await assert.rejects(Destination.listen(there, { uri: 'tcp:127.0.0.1:x' }))
    await assert.rejects(Destination.listen(there, { uri: 'unix:/nonexistent/socket' }))
    assert.throws(() => Source.migrate(here, { uri: 'nothing' }))
    await migratePair(here, there)
  })

  it('can be sent by any number of sources if it is read-only', () => {
    const { here } = machines(blocks)
    here.running = false
    const readOnly = Object.assign(here, { readOnly: true })
    for (let clone = 0; clone < 3; clone += 1) migrateTo(uri, readOnly, { dirtyLog: 'none' })
    const other = Object.assign(sameMemory(here), { readOnly: false })
    assert.throws(() => Source.migrate(other, { uri }), owned)
  })
})

/** A valid machine with some properties changed. */
function changed(properties: object): MigratableMachine {
  const good: MigratableMachine = new TestMachine({ blocks })
  return new Proxy(good, {
    get: (target, name) => Reflect.get(name in properties ? properties : target, name) as unknown,
  })
}

/** Both ends refuse it at once, without starting a worker. */
async function assertRefused(machine: MigratableMachine, expected: object): Promise<void> {
  const workers = watchWorkers()
  assert.throws(() => Source.migrate(machine, { uri }), expected)
  await assert.rejects(Destination.listen(machine, { uri: 'tcp:127.0.0.1:0' }), expected)
  assert.equal(workers.length, 0)
}

describe('an invalid machine', () => {
  const code = 'ERR_INVALID_BLOCK'
  const region = (lengthBytes = MIB): MemoryRegion => {
    const made = MemoryRegion.create({ kind: 'anon', lengthBytes })
    cleanups.add(() => made.close())
    return made
  }
  const closed = (): MemoryRegion => {
    const made = region()
    made.close()
    return made
  }
  const base = (): MachineBlock => ({ name: 'ram', region: region(), lengthBytes: MIB })
  const wrong: Record<string, (block: MachineBlock) => unknown[]> = {
    'no name': (block) => [{ ...block, name: '' }],
    'a name of 256 bytes': (block) => [{ ...block, name: 'é'.repeat(128) }],
    'a name that is not valid UTF-8': (block) => [{ ...block, name: '\ud800' }],
    'two blocks with one name': (block) => [block, { ...block, region: region() }],
    'an odd length': (block) => [{ ...block, lengthBytes: 4097 }],
    'no length': (block) => [{ ...block, lengthBytes: 0 }],
    'a length that is not a number': (block) => [{ ...block, lengthBytes: '4096' }],
    'a block longer than its region': (block) => [{ ...block, lengthBytes: 2 * MIB }],
    'a closed region': (block) => [{ ...block, region: closed() }],
    'no region': (block) => [{ ...block, region: { id: 1 } }],
    'pages smaller than those of the region': (block) => [{ ...block, pageSizeBytes: 512 }],
    'a length that is not whole pages': (block) => [{ ...block, pageSizeBytes: 3 * 4096 }],
  }
  for (const [title, make] of Object.entries(wrong)) {
    it(`is refused before the migration starts: ${title}`, async () => {
      await assertRefused(changed({ blocks: make(base()) }), { code })
    })
  }

  const senseless: Record<string, object> = {
    'a type that is not a string': { machineType: 7 },
    'a configuration that is not bytes': { configuration: 'text' },
    'a section id of more than 32 bits': { ramSectionId: 2 ** 32 },
    'no blocks': { blocks: undefined },
    'a hook that is not a function': { saveDevices: 7 },
    'no hook': { resumeAfterLoad: undefined },
    'a range of no block': { loadRanges: [{ block: 'no', offset: 0, lengthBytes: 4096 }] },
    'a range beyond its block': { loadRanges: [{ block: 'ram', offset: MIB, lengthBytes: 4096 }] },
    'a range of half a page': { loadRanges: [{ block: 'ram', offset: 0, lengthBytes: 2048 }] },
  }
  for (const [title, change] of Object.entries(senseless)) {
    it(`is refused before the migration starts: ${title}`, async () => {
      await assertRefused(changed(change), { code: 'ERR_INVALID_MACHINE' })
    })
  }

  it('is refused before the migration starts: an async hook that must be synchronous', async () => {
    const late = async (): Promise<void> => Promise.resolve()
    await assertRefused(changed({ resumeAfterLoad: late }), (error: unknown) => {
      return error instanceof MachineError && error.hook === 'resumeAfterLoad'
    })
  })
})

describe('an invalid option', () => {
  const wrong: Record<string, [options: object, code: string]> = {
    'a misspelt option': [{ postcopyAtOnec: true }, 'ERR_UNKNOWN_OPTION'],
    'a misspelt capability': [{ capabilities: { postcopy: true } }, 'ERR_UNKNOWN_CAPABILITY'],
    'a capability that is a string': [{ capabilities: { events: 'on' } }, 'ERR_INVALID_CAPABILITY'],
    'a misspelt parameter': [{ parameters: { bandwidth: 1 } }, 'ERR_UNKNOWN_PARAMETER'],
    'a parameter out of range': [{ parameters: { 'x-spin-us': 5000 } }, 'ERR_INVALID_PARAMETER'],
  }
  for (const [title, [options, code]] of Object.entries(wrong)) {
    it(`is refused by both ends before the migration starts: ${title}`, async () => {
      const machine = new TestMachine({ blocks })
      const workers = watchWorkers()
      const forSource = { uri, ...options }
      const forDestination = { uri: 'tcp:127.0.0.1:0', ...options }
      assert.throws(() => Source.migrate(machine, forSource), { code })
      await assert.rejects(Destination.listen(machine, forDestination), { code })
      assert.equal(workers.length, 0)
    })
  }

  const ofSource: Record<string, Partial<Record<keyof SourceOptions, unknown>>> = {
    'a dirty log that does not exist': { dirtyLog: 'asink' },
    'a switch that is a number': { postcopyAtOnce: 1 },
    'a signal that is not an AbortSignal': { signal: {} },
    'a page order that is not a PageOrder': { pageOrder: {} },
  }
  for (const [title, options] of Object.entries(ofSource)) {
    it(`is refused by a source: ${title}`, () => {
      const wrongOptions = { uri, ...options } as unknown as SourceOptions
      const machine = new TestMachine({ blocks })
      assert.throws(() => Source.migrate(machine, wrongOptions), { code: 'ERR_INVALID_OPTION' })
    })
  }

  it('is refused by a source: postcopy at once, without the capability', () => {
    const options = { uri, postcopyAtOnce: true }
    assert.throws(() => Source.migrate(new TestMachine({ blocks }), options), {
      code: 'ERR_INVALID_CAPABILITY',
    })
  })

  it('is refused by Park and ParkedVm.open', async () => {
    const directory = join(await temporaryFolder(), 'vm')
    const misspelt = { directory, file: '/dev/null', paramters: {} }
    assert.throws(() => Park.fromFile(misspelt), { code: 'ERR_UNKNOWN_OPTION' })
    const options: object = { verfiy: true }
    assert.throws(() => ParkedVm.open(directory, options), { code: 'ERR_UNKNOWN_OPTION' })
  })
})
