/**
 * A real QEMU's postcopy into memory of ours, under real page faults: threads touch it at random
 * while QEMU sends, each touch of a missing page is a fault that QEMU answers over its return
 * path, and in the end every byte is that of the source's memory file.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Destination } from '../../../src/destination/destination.js'
import { PeerError } from '../../../src/errors.js'
import { MemoryRegion } from '../../../src/kernel/index.js'
import type { MachineBlock, MigratableMachine } from '../../../src/migration/machine.js'
import type { Manifest } from '../../../src/park/index.js'
import { temporaryFolder } from '../../cli/support.js'
import { cleanups } from '../../support/cleanup.js'
import { lendHugePages } from '../../support/huge-pages.js'
import { requires } from '../../support/requires.js'
import { countingFirmware } from '../../../src/bench/qemu-guest.js'
import { Qemu } from './qemu.js'
import { counts, listen, memoryOf } from './support.js'
import { Touchers } from './touch.js'

const MIB = 2 ** 20
/** How often in a row it must be right. */
const ROUNDS = 20

/** A machine with QEMU's RAM blocks, which takes its devices without knowing them. */
class OpaqueMachine implements MigratableMachine {
  readonly machineType: string
  readonly blocks: readonly MachineBlock[]
  running = false
  sections = new Uint8Array()
  seenType = ''
  #onLoad: (() => void) | undefined

  constructor(manifest: Manifest, hugeBlock?: string) {
    this.machineType = manifest.machineType
    this.blocks = manifest.blocks.map(({ name, lengthBytes }) => {
      const kind = name === hugeBlock ? 'hugetlb' : 'anon'
      return { name, lengthBytes, region: MemoryRegion.create({ kind, lengthBytes }) }
    })
    cleanups.add(() => {
      for (const { region } of this.blocks) region.close()
    })
  }

  whenLoading(act: () => void): void {
    this.#onLoad = act
  }

  checkConfiguration(machineType: string): void {
    this.seenType = machineType
    if (machineType !== this.machineType) throw new PeerError('ERR_PEER_MACHINE', machineType)
  }

  loadOpaque(sections: Uint8Array): void {
    this.sections = Uint8Array.from(sections)
    this.#onLoad?.()
  }

  start(): void {
    this.running = true
  }

  async stop(): Promise<void> {
    await Promise.resolve()
  }

  saveDevices(): Uint8Array {
    return this.sections
  }

  loadDevice(): never {
    throw new Error('its devices are opaque')
  }

  finishLoading(): void {
    assert(this.sections.length > 0)
  }

  resumeAfterLoad(): void {
    this.start()
  }

  vcpuThreadIds(): number[] {
    return []
  }
}

interface Source {
  qemu: Qemu
  folder: string
  memoryFile: string
  manifest: Manifest
}

/** A QEMU whose RAM is a file; a first, parked migration tells its blocks. */
async function startSource(object: string): Promise<Source> {
  const folder = await temporaryFolder()
  const memoryFile = join(folder, 'memory')
  const args = [
    '-machine',
    'pc,memory-backend=m',
    '-m',
    '32',
    ...countingFirmware(folder, 24 * MIB),
  ]
  const qemu = await Qemu.start(folder, [...args, '-object', object.replace('FILE', memoryFile)])
  await counts(qemu)
  const park = await listen({ directory: join(folder, 'vm') })
  await qemu.execute('migrate', { uri: park.uri })
  await park.done
  assert(park.manifest !== undefined)
  await qemu.reached('completed')
  await qemu.enable('postcopy-ram')
  // So slow that precopy cannot end by itself, and that threads have to wait for pages.
  await qemu.limit({ 'max-bandwidth': 10 * MIB, 'max-postcopy-bandwidth': 60 * MIB })
  return { qemu, folder, memoryFile, manifest: park.manifest }
}

/** One migration under faults; returns what came, for a look at its bytes. */
async function takeUnderFaults(
  { qemu, manifest }: Source,
  hugeBlock?: string,
  preempt = false,
): Promise<OpaqueMachine> {
  const machine = new OpaqueMachine(manifest, hugeBlock)
  const [ram] = machine.blocks
  assert(ram?.name === 'm')
  const touchers = await Touchers.start(ram)
  machine.whenLoading(() => touchers.begin())
  const destination = await Destination.listen(machine, {
    uri: 'tcp:127.0.0.1:0',
    capabilities: { 'postcopy-ram': true, 'postcopy-preempt': preempt },
  })
  cleanups.add(() => destination.close())
  if (preempt) await qemu.enable('postcopy-preempt')
  await qemu.execute('cont')
  await qemu.execute('migrate', { uri: destination.uri })
  await qemu.execute('migrate-start-postcopy')
  await destination.done
  assert.equal(await qemu.reached('completed', 'failed'), 'completed')
  const touches = await touchers.end()
  assert(touches > 1000, `${touches} touches`)
  assert(destination.counters.faults > 0, 'threads had to wait')
  assert(destination.counters.requestedPages > 0)
  assert.equal(machine.seenType, manifest.machineType)
  await destination.close()
  return machine
}

function contentOf(machine: OpaqueMachine, name: string): Buffer {
  const block = machine.blocks.find((candidate) => candidate.name === name)
  assert(block !== undefined, name)
  const bytes = Buffer.alloc(block.lengthBytes)
  block.region.read(0, bytes)
  return bytes
}

describe('QEMU to our userfaultfd memory', function () {
  before(function () {
    requires(this, 'qemu')
  })
  it(`is bit for bit the source's, ${ROUNDS} times in a row`, async function () {
    this.timeout(120_000)
    const source = await startSource('memory-backend-file,id=m,size=32M,share=on,mem-path=FILE')
    for (let round = 1; round <= ROUNDS; round += 1) {
      const machine = await takeUnderFaults(source)
      const expected = readFileSync(source.memoryFile)
      assert(contentOf(machine, 'm').equals(expected), `round ${round}: RAM differs`)
      const bios = await memoryOf(source.qemu, source.folder, 0xf0000, 64 * 1024)
      assert(contentOf(machine, 'pc.bios').equals(bios), `round ${round}: the BIOS differs`)
      for (const { region } of machine.blocks) region.close()
    }
  })

  it('is bit for bit the source’s with requested pages on the preempt channel', async function () {
    this.timeout(120_000)
    const source = await startSource('memory-backend-file,id=m,size=32M,share=on,mem-path=FILE')
    const machine = await takeUnderFaults(source, undefined, true)
    assert(contentOf(machine, 'm').equals(readFileSync(source.memoryFile)))
  })

  it('leaves the guest with QEMU when our machine refuses its type', async () => {
    const source = await startSource('memory-backend-file,id=m,size=32M,share=on,mem-path=FILE')
    const other: Manifest = { ...source.manifest, machineType: 'pc-q35-7.2' }
    const machine = new OpaqueMachine(other)
    const destination = await Destination.listen(machine, {
      uri: 'tcp:127.0.0.1:0',
      capabilities: { 'postcopy-ram': true },
    })
    cleanups.add(() => destination.close())
    await source.qemu.limit({ 'max-bandwidth': MIB })
    await source.qemu.execute('cont')
    await source.qemu.execute('migrate', { uri: destination.uri })
    await assert.rejects(destination.done, { code: 'ERR_PEER_MACHINE' })
    assert.equal(await source.qemu.reached('failed', 'completed'), 'failed')
    await counts(source.qemu, source.qemu.serial.length)
    assert.equal(machine.running, false)
  })

  describe('in huge pages', () => {
    before(function () {
      requires(this, 'hugePages')
    })
    lendHugePages(40)

    it('is bit for bit the source’s', async () => {
      const source = await startSource(
        'memory-backend-memfd,id=m,size=32M,share=on,hugetlb=on,hugetlbsize=2M',
      )
      const machine = await takeUnderFaults(source, 'm')
      const expected = await memoryOf(source.qemu, source.folder, MIB, 31 * MIB)
      assert(contentOf(machine, 'm').subarray(MIB).equals(expected))
    })
  })
})
