/** Compares a waiting QEMU with a VM, by what QMP reports before the VM is sent. */
import type { ParkedVm } from '../park/index.js'
import { listDevices, UntrustedFields } from '../park/internal.js'
import { printable } from '../printable.js'
import { formatByteSize } from '../units.js'
import type { Origin } from './origin-file.js'
import type { QmpClient } from './qmp-client.js'
import type { VmMonitor } from './vm-monitor.js'

const CODE = 'ERR_QMP_PROTOCOL'
/** A line of `info ramblock`: name, page size, offset, used and total length. */
const RAM_BLOCK = /^ *(\S.*?) +(\d+) (KiB|MiB|GiB) +0x[\da-f]+ +0x([\da-f]+) +0x([\da-f]+)(?: |$)/
const UNIT = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 }
/** QEMU's name for a PCI device on the first bus. */
const PCI = /^([\da-f]{4}):00:([\da-f]{2}\.[0-7])\/(.+)$/
const ROM = /^[\da-f]{4}:.*\.rom$/

export interface QemuBlock {
  readonly name: string
  readonly lengthBytes: number
  /** More than {@link lengthBytes} if QEMU can resize it. */
  readonly mostBytes: number
  readonly pageSizeBytes: number
}

export interface QemuFacts {
  readonly machineType: string
  readonly blocks: readonly QemuBlock[]
  readonly vcpus: number
  /** 0 if QEMU does not report it. */
  readonly maxVcpus: number
  /** Slots and functions of the first PCI bus, as in `04.0`. */
  readonly pciSlots: ReadonlySet<string>
}

/** What a VM needs. */
export interface VmFacts {
  readonly machineType: string
  readonly blocks: readonly { name: string; lengthBytes: number; pageSizeBytes: number }[]
  /** Names of the sections of its devices. */
  readonly devices: readonly string[]
  /** 0 if that is not recorded. */
  readonly maxVcpus: number
}

export async function qemuFacts(client: QmpClient, vm: VmMonitor): Promise<QemuFacts> {
  const type = await client.execute('qom-get', { path: '/machine', property: 'type' })
  const buses = await client.execute('query-pci')
  return {
    machineType: typeof type === 'string' ? type.replace(/-machine$/, '') : '',
    blocks: parseRamBlocks(await client.hmp('info ramblock')),
    ...(await vm.vcpus()),
    pciSlots: pciSlots(buses),
  }
}

export function vmFacts(vm: ParkedVm, origin: Origin | undefined): VmFacts {
  return {
    machineType: vm.machineType,
    blocks: vm.blocks.map(({ name, lengthBytes, pageSizeBytes }) => ({
      ...{ name, lengthBytes, pageSizeBytes },
    })),
    devices: listDevices(vm.saveDevices()).map(({ idstr }) => idstr),
    maxVcpus: origin?.maxVcpus ?? 0,
  }
}

/** @param text - of `info ramblock` */
export function parseRamBlocks(text: string): QemuBlock[] {
  return text.split(/\r?\n/).flatMap((line) => {
    const [, name, size, unit, used, total] = RAM_BLOCK.exec(line) ?? []
    if (name === undefined || (unit !== 'KiB' && unit !== 'MiB' && unit !== 'GiB')) return []
    const pageSizeBytes = Number(size) * UNIT[unit]
    const [lengthBytes, mostBytes] = [used, total].map((digits) => parseInt(digits ?? '', 16))
    return [{ name, lengthBytes: lengthBytes ?? 0, mostBytes: mostBytes ?? 0, pageSizeBytes }]
  })
}

function pciSlots(answer: unknown): Set<string> {
  const slots = new Set<string>()
  for (const value of Array.isArray(answer) ? (answer as unknown[]) : []) {
    const bus = new UntrustedFields(value, 'query-pci of QEMU', CODE)
    if (bus.count('bus') !== 0) continue
    for (const device of bus.objects('devices')) {
      const slot = device.count('slot').toString(16).padStart(2, '0')
      slots.add(`${slot}.${device.count('function')}`)
    }
  }
  return slots
}

/** Each difference that QEMU would refuse, in a sentence with the option that differs. */
export function differences(vm: VmFacts, qemu: QemuFacts): string[] {
  return [
    ...(vm.machineType === qemu.machineType
      ? []
      : [
          `-machine: the VM is a ${printable(vm.machineType)}, QEMU a ${printable(qemu.machineType)}`,
        ]),
    ...vcpuDifferences(vm, qemu),
    ...vm.blocks.flatMap((block) => blockDifference(block, qemu) ?? []),
    ...vm.devices.flatMap((idstr) => deviceDifference(idstr, qemu) ?? []),
  ]
}

function vcpuDifferences(vm: VmFacts, qemu: QemuFacts): string[] {
  const vcpus = vm.devices.filter((idstr) => idstr === 'cpu_common').length
  const differs = vcpus > 0 && vcpus !== qemu.vcpus
  const most = vm.maxVcpus > 0 && qemu.maxVcpus > 0 && vm.maxVcpus !== qemu.maxVcpus
  return [
    ...(differs ? [`-smp: the VM has ${vcpus} vCPUs, QEMU ${qemu.vcpus}`] : []),
    ...(most ? [`-smp maxcpus=: the VM has ${vm.maxVcpus}, QEMU ${qemu.maxVcpus}`] : []),
  ]
}

function blockDifference(
  { name, lengthBytes, pageSizeBytes }: VmFacts['blocks'][number],
  qemu: QemuFacts,
): string | undefined {
  const there = qemu.blocks.find((block) => block.name === name)
  const option = ROM.test(name) ? 'romfile=' : '-m, or the firmware'
  const text = `RAM block "${printable(name)}"`
  if (there === undefined) {
    return `${text} is missing in QEMU: its device, or ${ROM.test(name) ? 'its romfile=' : 'its memory'}, is`
  }
  const canResize = there.mostBytes > there.lengthBytes
  const fits = canResize ? lengthBytes <= there.mostBytes : lengthBytes === there.lengthBytes
  if (!fits) {
    const [here, has] = [lengthBytes, there.lengthBytes].map((bytes) => formatByteSize(bytes))
    return `${option}: ${text} has ${here} in the VM, ${has} in QEMU`
  }
  if (pageSizeBytes === there.pageSizeBytes) return undefined
  const [here, has] = [pageSizeBytes, there.pageSizeBytes].map((bytes) => formatByteSize(bytes))
  return `--page-size: ${text} was parked from pages of ${here}, QEMU has ${has}: resume --page-size ${printable(name)}=${has?.replace(/\.\d+ /, '').replace('iB', '') ?? ''}`
}

/** Devices behind a bridge are not compared: QEMU lists them after the guest has set up the bridge. */
function deviceDifference(idstr: string, { pciSlots: slots }: QemuFacts): string | undefined {
  const [, , slot, name] = PCI.exec(idstr) ?? []
  if (slot === undefined || name === undefined || slots.has(slot)) return undefined
  return `-device: there is no ${printable(name)} in PCI slot ${slot} (-device …,addr=${slot})`
}
