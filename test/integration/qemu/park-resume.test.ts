/** A counting guest, parked from a QEMU in every way and resumed in others. */
import assert from 'node:assert/strict'
import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Park, SavedVm, resume } from '../../../src/park/index.js'
import { lendHugePages } from '../../support/huge-pages.js'
import { cleanups } from '../../support/cleanup.js'
import { requires } from '../../support/requires.js'
import { temporaryFolder } from '../../cli/support.js'
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
} from './support.js'

const MIB = 2 ** 20

/** When the source switches; `converged` has the capability, but precopy ends before a switch. */
type Way = 'precopy' | 'converged' | 'mid-precopy' | 'at once'

interface Case {
  title: string
  way: Way
  /** Besides postcopy-ram. */
  capabilities?: readonly string[]
  args: (folder: string) => string[]
  /** The block at the start of guest physical memory. */
  ram?: string
  /** Its pages are of 2 MiB, which a precopy stream does not contain. */
  hugePages?: true
}

const cases: readonly Case[] = [
  { title: 'pc, precopy', way: 'precopy', args: countingPc },
  { title: 'pc, postcopy-ram on, precopy converges', way: 'converged', args: countingPc },
  { title: 'pc, switched in mid-precopy', way: 'mid-precopy', args: countingPc },
  { title: 'pc, switched at once', way: 'at once', args: countingPc },
  {
    title: 'pc, postcopy-preempt, switched in mid-precopy',
    way: 'mid-precopy',
    capabilities: ['postcopy-preempt'],
    args: countingPc,
  },
  {
    title: 'pc, return-path, precopy',
    way: 'precopy',
    capabilities: ['return-path'],
    args: countingPc,
  },
  {
    title: 'q35, switched at once',
    way: 'at once',
    args: (folder) => ['-machine', 'q35', '-m', '32', ...countingFirmware(folder, 16 * MIB)],
  },
  {
    title: 'q35 with a virtio disk, network and VGA, precopy',
    way: 'precopy',
    args: (folder) => [
      ...['-machine', 'q35', '-m', '32', ...countingFirmware(folder, 16 * MIB)],
      ...['-device', 'virtio-blk-pci,drive=d', '-drive', disk(folder)],
      ...['-device', 'virtio-net-pci,romfile=', '-vga', 'std'],
    ],
  },
  {
    title: 'pc with a DIMM, virtio-balloon and an IDE disk, switched in mid-precopy',
    way: 'mid-precopy',
    args: (folder) => [
      ...['-machine', 'pc', '-m', '32,slots=2,maxmem=256M', ...countingFirmware(folder, 16 * MIB)],
      ...['-object', 'memory-backend-ram,id=dimm,size=128M', '-device', 'pc-dimm,memdev=dimm'],
      ...['-device', 'virtio-balloon-pci', '-device', 'ide-hd,drive=d', '-drive', disk(folder)],
    ],
  },
  {
    title: 'pc of 1 GiB, switched at once',
    way: 'at once',
    args: (folder) => ['-machine', 'pc', '-m', '1024', ...countingFirmware(folder, 16 * MIB)],
  },
  {
    title: 'pc in huge pages, precopy',
    way: 'precopy',
    hugePages: true,
    args: hugePc,
    ram: 'm',
  },
  {
    title: 'pc in huge pages, switched in mid-precopy',
    way: 'mid-precopy',
    hugePages: true,
    args: hugePc,
    ram: 'm',
  },
]

function hugePc(folder: string): string[] {
  const memory = 'memory-backend-memfd,id=m,size=32M,hugetlb=on,hugetlbsize=2M'
  return [
    ...['-machine', 'pc,memory-backend=m', '-object', memory, '-m', '32'],
    ...countingFirmware(folder, 16 * MIB),
  ]
}

function disk(folder: string): string {
  const path = join(folder, 'disk')
  writeFileSync(path, new Uint8Array(MIB))
  return `if=none,id=d,format=raw,snapshot=on,file=${path}`
}

async function send(source: Qemu, park: Park, way: Way): Promise<void> {
  if (way !== 'precopy') await source.enable('postcopy-ram')
  // Either so slow that precopy cannot end by itself, or unlimited.
  const isSwitched = way === 'mid-precopy' || way === 'at once'
  await source.limit({
    'max-bandwidth': isSwitched ? 30 * MIB : 0,
    'downtime-limit': isSwitched ? 1 : 300,
  })
  await source.execute('migrate', { uri: park.uri })
  if (way === 'mid-precopy') while (park.counters.normalPages < 500) await sleep(10)
  if (isSwitched) await source.execute('migrate-start-postcopy')
}

async function parkAndResume(shape: Case): Promise<void> {
  const { way, args, capabilities = [], ram: name = 'pc.ram', hugePages } = shape

  const folder = await temporaryFolder()
  const directory = join(folder, 'vm')
  const machine = args(folder)
  const source = await Qemu.start(folder, machine)
  await counts(source)

  const park = await listen({ directory })
  await source.enable(...(way === 'precopy' ? [] : ['postcopy-ram']), ...capabilities)
  await send(source, park, way)
  await park.done
  assert.equal(await source.reached('completed', 'failed'), 'completed')
  assert.equal(
    park.manifest?.way,
    way === 'precopy' || way === 'converged' ? 'precopy' : 'postcopy',
  )
  const low = 32 * MIB
  // Below 1 MiB there are ROMs and holes over RAM.
  const memory = await memoryOf(source, folder, MIB, low - MIB)
  const everyPageIsThere = fileHas(memory, parkedRam(park, directory, name, MIB), low - MIB)
  assert(everyPageIsThere, 'RAM on disk is RAM of the source')
  const file = park.manifest.blocks.find((block) => block.name === name)?.file ?? ''
  const { blocks } = statSync(join(directory, file))
  assert(blocks * 512 < 18 * MIB, 'zero pages are holes')
  await source.kill()

  const before = fingerprint(directory)
  const pageSizes = new Map(hugePages ? [[name, 2 * MIB]] : [])
  const vm = openParked(directory, { pageSizes })
  const { qemu, uri } = await Qemu.incoming(folder, machine)
  const clone = resume(vm, { uri })
  cleanups.add(() => clone.close())
  await clone.done
  assert.equal(await qemu.reached('completed'), 'completed')
  await counts(qemu)
  assert.deepEqual(fingerprint(directory), before)
}

describe('parking and resuming with QEMU', function () {
  before(function () {
    requires(this, 'qemuPostcopy')
  })

  for (const shape of cases.filter(({ hugePages }) => hugePages === undefined)) {
    it(shape.title, () => parkAndResume(shape))
  }

  describe('in huge pages', () => {
    before(function () {
      requires(this, 'hugePages')
    })
    lendHugePages(40)
    for (const shape of cases.filter(({ hugePages }) => hugePages === true)) {
      it(shape.title, () => parkAndResume(shape))
    }
  })

  it('resumes a VM that QEMU has saved to a file', async () => {
    const folder = await temporaryFolder()
    const directory = join(folder, 'vm')
    const source = await Qemu.start(folder, countingPc(folder))
    await counts(source)
    await source.limit({ 'max-bandwidth': 0 })
    await source.execute('migrate', { uri: `exec:cat > ${join(folder, 'saved')}` })
    await source.reached('completed')
    await source.kill()
    const park = Park.fromFile({ file: join(folder, 'saved'), directory })
    cleanups.add(() => park.close())
    await park.done
    const { qemu, uri } = await Qemu.incoming(folder, countingPc(folder))
    const clone = resume(openParked(directory), { uri })
    cleanups.add(() => clone.close())
    await clone.done
    await counts(qemu)
  })

  it('resumes a VM that QEMU has saved to a file, in place', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'saved')
    const source = await Qemu.start(folder, countingPc(folder))
    await counts(source)
    // Live: pages come again, and the last copy counts.
    await source.limit({ 'max-bandwidth': 64 * MIB })
    await source.execute('migrate', { uri: `exec:cat > ${file}` })
    await source.reached('completed')
    await source.kill()
    for (const state of ['made', 'used']) {
      const vm = await SavedVm.open(file)
      cleanups.add(() => vm.close())
      assert.deepEqual([vm.image.index?.state, vm.image.wasRunning], [state, true])
      const { qemu, uri } = await Qemu.incoming(folder, countingPc(folder))
      const clone = resume(vm, { uri })
      cleanups.add(() => clone.close())
      await clone.done
      await counts(qemu)
      await qemu.kill()
    }
  })

  it('sends a stopped clone exactly the parked memory', async () => {
    const folder = await temporaryFolder()
    const directory = join(folder, 'vm')
    const source = await Qemu.start(folder, countingPc(folder))
    await counts(source)
    const park = await listen({ directory })
    await send(source, park, 'at once')
    await park.done
    const vm = openParked(directory)
    const { qemu, uri } = await Qemu.incoming(folder, [...countingPc(folder), '-S'])
    const clone = resume(vm, { uri })
    cleanups.add(() => clone.close())
    await clone.done
    const memory = await memoryOf(qemu, folder, MIB, 31 * MIB)
    assert(fileHas(memory, parkedRam(vm, directory, 'pc.ram', MIB)))
    // The BIOS' 64 KiB below 1 MiB are a block of their own.
    const bios = await memoryOf(qemu, folder, 0xf0000, 64 * 1024)
    assert(fileHas(bios, parkedRam(vm, directory, 'pc.bios')))
  })

  it('starts two clones at once, on demand and with a limit, from one set of files', async () => {
    const folder = await temporaryFolder()
    const directory = join(folder, 'vm')
    const machine = countingPc(folder, 8 * MIB)
    const source = await Qemu.start(folder, machine)
    await counts(source)
    const park = await listen({ directory })
    await send(source, park, 'precopy')
    await park.done
    await source.kill()

    const vm = openParked(directory)
    const eager = await Qemu.incoming(folder, machine)
    const lazy = await Qemu.incoming(folder, machine)
    const limited = resume(vm, {
      uri: eager.uri,
      parameters: { 'max-postcopy-bandwidth': 20 * MIB },
    })
    const onDemand = resume(vm, {
      uri: lazy.uri,
      parameters: { 'x-push-after-quiet-ms': Number.MAX_SAFE_INTEGER },
    })
    for (const clone of [limited, onDemand]) cleanups.add(() => clone.close())
    await Promise.all([counts(eager.qemu), counts(lazy.qemu)])
    // Touched pages were requested or read ahead, since the guest sweeps its RAM in order. The
    // rest of its RAM is zero and left out, and ROMs are not sent yet.
    assert.equal(onDemand.state, 'postcopy-active')
    const { requestedPages, normalPages, zeroPages } = onDemand.counters
    const { leftOutPages, remainingPages } = onDemand.counters
    assert(normalPages + zeroPages >= (7 * MIB) / 4096)
    assert(requestedPages < (7 * MIB) / 4096 / 2, `${requestedPages} requests`)
    assert(remainingPages > 0 && leftOutPages > (23 * MIB) / 4096)
    onDemand.setParameters({ 'x-push-after-quiet-ms': 0 })
    limited.setParameters({ 'max-postcopy-bandwidth': 0 })
    await Promise.all([limited.done, onDemand.done])
    assert.equal(await lazy.qemu.reached('completed'), 'completed')
    assert.equal(await eager.qemu.reached('completed'), 'completed')
    await Promise.all([eager, lazy].map(({ qemu }) => counts(qemu, qemu.serial.length)))
  })
})
