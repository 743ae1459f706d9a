/** RAM of a QEMU in memory of ours. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { PeerError } from '../../../src/errors.js'
import { MemoryRegion } from '../../../src/kernel/index.js'
import type { MachineBlock, MigratableMachine } from '../../../src/migration/machine.js'
import type { Manifest } from '../../../src/park/index.js'
import { temporaryFolder } from '../../cli/support.js'
import { cleanups } from '../../support/cleanup.js'
import { Qemu } from './qemu.js'
import { type Content, countingFirmware, counts, listen } from './support.js'

const MIB = 2 ** 20

/** A machine with QEMU's RAM blocks, which accepts its devices without interpreting them. */
export class OpaqueMachine implements MigratableMachine {
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

export interface Source {
  qemu: Qemu
  folder: string
  memoryFile: string
  manifest: Manifest
}

/** RAM in a file. */
export function fileMemory(ramMib = 16): string {
  return `memory-backend-file,id=m,size=${ramMib}M,share=on,mem-path=FILE`
}

/** A QEMU whose RAM is a file; a first, parked migration shows its blocks. */
export async function startSource(object: string, ramMib = 16): Promise<Source> {
  const folder = await temporaryFolder()
  const memoryFile = join(folder, 'memory')
  const args = [
    '-machine',
    'pc,memory-backend=m',
    '-m',
    String(ramMib),
    ...countingFirmware(folder, ramMib * 0.75 * MIB),
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
  await qemu.limit({ 'max-bandwidth': 5 * MIB, 'max-postcopy-bandwidth': 30 * MIB })
  return { qemu, folder, memoryFile, manifest: park.manifest }
}

/** The content of a block of the machine, from this offset on. */
export function contentOf(machine: OpaqueMachine, name: string, from = 0): Content {
  const block = machine.blocks.find((candidate) => candidate.name === name)
  assert(block !== undefined, name)
  return {
    lengthBytes: block.lengthBytes - from,
    read: (offset, target) => block.region.read(from + offset, target),
  }
}
