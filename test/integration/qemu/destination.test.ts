/**
 * A real QEMU's postcopy into memory of ours, with real page faults. Threads touch the memory at
 * random while QEMU sends; each touch of a missing page is a fault that QEMU serves. In the end
 * every byte must equal that of the source's memory file.
 */
import assert from 'node:assert/strict'
import { MachineError, PeerError } from '../../../src/errors.js'
import { Destination } from '../../../src/destination/destination.js'
import type { Manifest } from '../../../src/park/index.js'
import { cleanups } from '../../support/cleanup.js'
import { lendHugePages } from '../../support/huge-pages.js'
import { requires } from '../../support/requires.js'
import { OpaqueMachine, type Source, contentOf, fileMemory, startSource } from './opaque.js'
import { counts, fileHas, memoryOf } from './support.js'
import { Touchers } from './touch.js'

const MIB = 2 ** 20
/** How many times in a row it must succeed. */
const ROUNDS = 20

/** One migration under faults; returns the received data, to compare the bytes. */
async function takeUnderFaults(
  { qemu, manifest }: Source,
  {
    hugeBlock,
    preempt = false,
    touchers = new Touchers(),
  }: { hugeBlock?: string; preempt?: boolean; touchers?: Touchers } = {},
): Promise<OpaqueMachine> {
  const machine = new OpaqueMachine(manifest, hugeBlock)
  const [ram] = machine.blocks
  assert(ram?.name === 'm')
  await touchers.aim(ram)
  machine.whenLoading(() => touchers.begin())
  const destination = await Destination.listen(machine, {
    uri: 'tcp:127.0.0.1:0',
    capabilities: { 'postcopy-ram': true, 'postcopy-preempt': preempt },
  })
  cleanups.add(() => destination.close())
  if (preempt) await qemu.enable('postcopy-preempt')
  // On a fast host all pages would be pushed before the threads have touched many.
  await qemu.limit({ 'max-postcopy-bandwidth': 32 * MIB })
  await qemu.execute('cont')
  await qemu.execute('migrate', { uri: destination.uri })
  await qemu.execute('migrate-start-postcopy')
  await destination.done
  assert.equal(await qemu.reached('completed', 'failed'), 'completed')
  const touches = await touchers.end()
  const { faults, requestedPages } = destination.counters
  assert(requestedPages > 0 && faults >= requestedPages, 'threads had to wait')
  // How many other touches found their page depends on the host.
  assert(touches >= faults, `${touches} touches, ${faults} faults`)
  assert.equal(machine.seenType, manifest.machineType)
  await destination.close()
  return machine
}

describe('a migration from QEMU to userfaultfd memory', function () {
  before(function () {
    requires(this, 'qemu')
  })
  it(`transfers RAM bit for bit, ${ROUNDS} times in a row`, async function () {
    this.timeout(120_000)
    const source = await startSource(fileMemory())
    const touchers = new Touchers()
    for (let round = 1; round <= ROUNDS; round += 1) {
      const machine = await takeUnderFaults(source, { touchers })
      const ram = contentOf(machine, 'm')
      assert(fileHas(source.memoryFile, ram), `round ${round}: RAM differs`)
      const bios = await memoryOf(source.qemu, source.folder, 0xf0000, 64 * 1024)
      assert(fileHas(bios, contentOf(machine, 'pc.bios')), `round ${round}: the BIOS differs`)
      for (const { region } of machine.blocks) region.close()
    }
  })

  it('transfers RAM bit for bit with requested pages on the preempt channel', async function () {
    this.timeout(120_000)
    const source = await startSource(fileMemory())
    const machine = await takeUnderFaults(source, { preempt: true })
    assert(fileHas(source.memoryFile, contentOf(machine, 'm')))
  })

  it('leaves the guest at QEMU if the destination refuses the machine type', async () => {
    const source = await startSource(fileMemory())
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
    await assert.rejects(destination.done, (error) => {
      assert(error instanceof MachineError)
      assert.equal(error.hook, 'checkConfiguration')
      assert(error.cause instanceof PeerError)
      assert.equal(error.cause.code, 'ERR_PEER_MACHINE')
      return true
    })
    assert.equal(await source.qemu.reached('failed', 'completed'), 'failed')
    await counts(source.qemu, source.qemu.serial.length)
    assert.equal(machine.running, false)
  })

  describe('in huge pages', () => {
    before(function () {
      requires(this, 'hugePages')
    })
    lendHugePages(40)

    it('transfers RAM bit for bit', async () => {
      const source = await startSource(
        'memory-backend-memfd,id=m,size=16M,share=on,hugetlb=on,hugetlbsize=2M',
      )
      const machine = await takeUnderFaults(source, { hugeBlock: 'm' })
      const expected = await memoryOf(source.qemu, source.folder, MIB, 15 * MIB)
      assert(fileHas(expected, contentOf(machine, 'm', MIB)))
    })
  })
})

describe('QEMU whose devices are refused after the package', function () {
  before(function () {
    requires(this, 'qemu')
  })

  it('stays paused, which the destination reports', async () => {
    const { qemu, manifest } = await startSource(fileMemory())
    const machine = new OpaqueMachine(manifest)
    machine.loadOpaque = () => {
      throw new RangeError('no such device here')
    }
    const destination = await Destination.listen(machine, {
      uri: 'tcp:127.0.0.1:0',
      capabilities: { 'postcopy-ram': true },
    })
    cleanups.add(() => destination.close())
    await qemu.enable('postcopy-ram')
    await qemu.execute('cont')
    await qemu.execute('migrate', { uri: destination.uri })
    await qemu.execute('migrate-start-postcopy')
    await assert.rejects(destination.done, {
      code: 'ERR_MACHINE_HOOK',
      message: /no such device here\. The source did not wait .* postcopy-paused, and cont fails/,
    })
    assert.equal(await qemu.reached('postcopy-paused', 'failed', 'completed'), 'postcopy-paused')
    await assert.rejects(qemu.execute('cont'), /cont: /)
  })
})
