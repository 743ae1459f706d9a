/** The comparison of a QEMU with a parked VM. */
import assert from 'node:assert/strict'
import {
  differences,
  parseRamBlocks,
  type QemuFacts,
  type VmFacts,
} from '../../src/qemu/compare.js'

const INFO = `              Block Name    PSize              Offset               Used              Total
                  pc.ram    4 KiB  0x0000000000000000 0x0000000004000000 0x0000000004000000
    /rom@etc/acpi/tables    4 KiB  0x0000000004080000 0x0000000000020000 0x0000000000200000
 0000:00:03.0/e1000.rom    4 KiB  0x0000000004280000 0x0000000000040000 0x0000000000040000 0x7f0000000000 rw
               a b mem-1    2 MiB  0x0000000004000000 0x0000000000400000 0x0000000000400000
`

const PAGE = 4096
const vm: VmFacts = {
  machineType: 'pc-i440fx-7.2',
  blocks: [
    { name: 'pc.ram', lengthBytes: 2 ** 26, pageSizeBytes: PAGE },
    { name: '/rom@etc/acpi/tables', lengthBytes: 2 ** 18, pageSizeBytes: PAGE },
    { name: '0000:00:03.0/e1000.rom', lengthBytes: 2 ** 18, pageSizeBytes: PAGE },
    { name: 'a b mem-1', lengthBytes: 2 ** 22, pageSizeBytes: 2 ** 21 },
  ],
  devices: ['cpu_common', 'cpu', '0000:00:03.0/e1000', '0000:00:1e.0:01.0/nvme', 'serial'],
  maxVcpus: 2,
}
const qemu: QemuFacts = {
  ...{ machineType: 'pc-i440fx-7.2', blocks: parseRamBlocks(INFO), vcpus: 1, maxVcpus: 2 },
  pciSlots: new Set(['00.0', '03.0', '1e.0']),
}

describe('the comparison of a QEMU with a VM', () => {
  it('finds no difference if there is none, also for a block that QEMU resizes', () => {
    assert.equal(qemu.blocks.length, 4)
    assert.deepEqual(differences(vm, qemu), [])
  })

  it('names the option of each difference', () => {
    const lacks = (name: string): QemuFacts['blocks'] =>
      qemu.blocks.filter((block) => block.name !== name)
    const resized = (name: string, lengthBytes: number): QemuFacts['blocks'] =>
      qemu.blocks.map((block) =>
        block.name === name ? { ...block, lengthBytes, mostBytes: lengthBytes } : block,
      )
    for (const [change, message] of [
      [{ machineType: 'pc-q35-7.2' }, /^-machine: the VM is a pc-i440fx-7\.2, QEMU a pc-q35-7\.2$/],
      [{ vcpus: 4 }, /^-smp: the VM has 1 vCPUs, QEMU 4$/],
      [{ maxVcpus: 4 }, /^-smp maxcpus=: the VM has 2, QEMU 4$/],
      [{ blocks: resized('pc.ram', 2 ** 27) }, /^-m, .*64\.0 MiB in the VM, 128 MiB in QEMU$/],
      [{ blocks: resized('0000:00:03.0/e1000.rom', 2 ** 19) }, /^romfile=: .*256 KiB .* 512 KiB/],
      [{ blocks: lacks('0000:00:03.0/e1000.rom') }, /is missing in QEMU: .*romfile=/],
      [{ blocks: resized('/rom@etc/acpi/tables', 2 ** 17) }, /^-m, or the firmware/],
      [{ pciSlots: new Set(['00.0']) }, /^-device: there is no e1000 in PCI slot 03\.0/],
    ] as const) {
      const found = differences(vm, { ...qemu, ...change })
      assert.equal(found.length, 1, found.join('\n'))
      assert.match(found[0] ?? '', message)
    }
    const pages = qemu.blocks.map((block) => ({ ...block, pageSizeBytes: PAGE }))
    assert.match(
      differences(vm, { ...qemu, blocks: pages })[0] ?? '',
      /--page-size a b mem-1=4\.?0*K/,
    )
  })

  it('does not compare what the VM does not record', () => {
    assert.deepEqual(differences({ ...vm, maxVcpus: 0, devices: [] }, { ...qemu, maxVcpus: 9 }), [])
  })
})
