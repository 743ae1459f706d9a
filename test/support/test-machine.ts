/**
 * The smallest machine that can be migrated: RAM blocks, a register, and devices
 * defined by the test.
 */
import { MemoryRegion, Userfaultfd } from '../../src/kernel/index.js'
import type { DeviceState, MachineBlock, MigratableMachine } from '../../src/migration/machine.js'
import { cleanups } from './cleanup.js'

export interface TestMachineOptions {
  machineType?: string
  kind?: 'anon' | 'memfd' | 'hugetlb'
  /** Length in bytes of each block, by name. */
  blocks?: Record<string, number>
  /** Called on the main thread for each device that is loaded. */
  onLoad?: (idstr: string, data: Uint8Array, machine: TestMachine) => void
}

export class TestMachine implements MigratableMachine {
  readonly machineType: string
  readonly blocks: readonly MachineBlock[]
  running = false
  starts = 0
  stops = 0
  wasRunning = true
  /** Devices by idstr; saved in order. */
  readonly devices = new Map<string, Uint8Array>()
  readonly #onLoad: TestMachineOptions['onLoad']

  constructor(options: TestMachineOptions = {}) {
    this.machineType = options.machineType ?? 'test'
    this.#onLoad = options.onLoad
    const sizes = options.blocks ?? { ram: 8 * 2 ** 20, vram: 2 * 2 ** 20 }
    this.blocks = Object.entries(sizes).map(([name, lengthBytes]) => {
      const region = MemoryRegion.create({ kind: options.kind ?? 'anon', lengthBytes })
      return { name, region, lengthBytes }
    })
    cleanups.add(() => {
      for (const { region } of this.blocks) region.close()
    })
  }

  start(): void {
    this.running = true
    this.starts += 1
  }

  async stop(): Promise<void> {
    this.wasRunning = this.running
    this.running = false
    this.stops += 1
    await Promise.resolve()
  }

  saveDevices(): DeviceState[] {
    const state = Uint8Array.of(this.wasRunning ? 1 : 0)
    return [
      ...[...this.devices].map(([idstr, data]) => device(idstr, data)),
      device('state', state),
    ]
  }

  loadDevice(idstr: string, _instanceId: number, _version: number, data: Uint8Array): number {
    const lengthBytes = new DataView(data.buffer, data.byteOffset).getUint32(0)
    const body = data.slice(4, 4 + lengthBytes)
    if (idstr === 'state') this.wasRunning = body[0] === 1
    else this.devices.set(idstr, body)
    this.#onLoad?.(idstr, body, this)
    return 4 + lengthBytes
  }

  finishLoading(): void {
    // Any set of devices is complete.
  }

  resumeAfterLoad(): void {
    if (this.wasRunning) this.start()
  }

  vcpuThreadIds(): number[] {
    return []
  }

  region(name: string): MemoryRegion {
    const found = this.blocks.find((block) => block.name === name)
    if (found === undefined) throw new Error(`no block ${name}`)
    return found.region
  }

  /** Fills every block with different pages; every `zeroEvery`th one stays zero. */
  fill(seed = 1, zeroEvery = 5): void {
    const page = new Uint8Array(4096)
    for (const { region, lengthBytes } of this.blocks) {
      for (let offset = 0, index = 0; offset < lengthBytes; offset += 4096, index += 1) {
        if (index % zeroEvery === 0) continue
        new Uint32Array(page.buffer).fill((seed * 0x9e3779b1 + index * 0x85ebca6b) | 1)
        region.write(offset, page)
      }
    }
  }

  byteAt(name: string, offset: number): number {
    const byte = new Uint8Array(1)
    this.region(name).read(offset, byte)
    return byte[0] ?? 0
  }

  /**
   * Registers the memory with a userfaultfd of the test, so that no other one can be registered.
   */
  occupy(): void {
    const uffd = Userfaultfd.open()
    cleanups.add(() => uffd.close())
    for (const { region, lengthBytes } of this.blocks) {
      uffd.register(region.address, lengthBytes, { writeProtect: true })
    }
  }

  content(name: string): Buffer {
    const region = this.region(name)
    const bytes = Buffer.alloc(region.lengthBytes)
    region.read(0, bytes)
    return bytes
  }
}

function device(idstr: string, data: Uint8Array): DeviceState {
  const withLength = new Uint8Array(4 + data.length)
  new DataView(withLength.buffer).setUint32(0, data.length)
  withLength.set(data, 4)
  return { idstr, instanceId: 0, version: 1, data: withLength }
}
