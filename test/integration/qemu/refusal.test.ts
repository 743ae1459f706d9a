/** Hints on why a real QEMU refuses a VM: each is right, or says that the reason is unknown. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type ParkedVm, explainRefusal, resume } from '../../../src/park/index.js'
import { isAtRest } from '../../../src/migration/states.js'
import { Cli, temporaryFolder } from '../../cli/support.js'
import { cleanups } from '../../support/cleanup.js'
import { requires } from '../../support/requires.js'
import { Qemu } from './qemu.js'
import { countingFirmware, counts, listen, openParked } from './support.js'

const MIB = 2 ** 20

interface Options {
  readonly machine?: string
  readonly ram?: string
  readonly smp?: string
  readonly rng?: string
  readonly rom?: string
}

/** A machine with a device in slot 5 and one with a ROM in slot 6. */
function machine(folder: string, options: Options = {}): string[] {
  const { machine = 'pc', ram = '32', smp = '2', rng = 'addr=5', rom = 'small' } = options
  return [
    ...['-machine', machine, '-m', ram, '-smp', smp, '-nic', 'none'],
    ...countingFirmware(folder, 16 * MIB),
    ...(rng === '' ? [] : ['-device', `virtio-rng-pci,${rng}`]),
    ...['-device', `e1000,addr=6,mac=52:54:00:12:34:56,romfile=${join(folder, rom)}`],
  ]
}

async function parkMachine(folder: string): Promise<ParkedVm> {
  writeFileSync(join(folder, 'small'), Buffer.alloc(64 * 1024))
  writeFileSync(join(folder, 'large'), Buffer.alloc(128 * 1024))
  const directory = join(folder, 'vm')
  const source = await Qemu.start(folder, machine(folder))
  await counts(source)
  const park = await listen({ directory })
  await source.limit({ 'max-bandwidth': 0 })
  await source.enable('postcopy-ram')
  await source.execute('migrate', { uri: park.uri })
  await source.execute('migrate-start-postcopy')
  await park.done
  await source.kill()
  return openParked(directory)
}

/** The reasons that the library and the command print for a refusal, first lines only. */
async function refusal(
  vm: ParkedVm,
  folder: string,
  options: Options,
  capabilities?: string[],
): Promise<{ known: string; unknown: string }> {
  const { qemu, uri } = await Qemu.incoming(folder, machine(folder, options), capabilities)
  const clone = resume(vm, { uri })
  cleanups.add(() => clone.close())
  const states: string[] = []
  await new Promise<void>((resolve) => {
    clone.on('state', (state) => {
      states.push(state)
      if (isAtRest(state)) resolve()
    })
  })
  await qemu.ends()
  assert(clone.error !== undefined)
  const stage = states.includes('postcopy-device') ? 'devices' : 'setup'
  const [known = '', unknown = ''] = [{ stage, output: qemu.stderr } as const, { stage } as const]
    .map((evidence) => explainRefusal(vm, clone.error ?? assert.fail(), evidence).message)
    .map((message) => message.split('\n')[0] ?? '')
  return { known, unknown }
}

const devices =
  /^QEMU may have refused a device: its output then names the device .*; the VM has -smp 2 and the PCI devices .*virtio-rng at 00:05\.0, e1000 at 00:06\.0/
const setup =
  /^QEMU refused the VM before its devices\. Its output has the reason; likely ones: another -machine than pc-i440fx-7\.2, other RAM \(-m\), a ROM \(romfile= of 0000:00:06\.0\/e1000\.rom\), or postcopy-ram is off/

describe('a VM that QEMU refuses', function () {
  before(function () {
    requires(this, 'qemuPostcopy')
  })

  it('is reported with the option that differs, or the options that may differ', async () => {
    const folder = await temporaryFolder()
    const vm = await parkMachine(folder)
    const cases: readonly [Options, RegExp, RegExp, string[]?][] = [
      [{ rng: '' }, /^there is no virtio-rng in PCI slot 05\.0 \(-device …,addr=05\.0\)/, devices],
      [{ rng: 'addr=7' }, /^there is no virtio-rng in PCI slot 05\.0/, devices],
      [{ smp: '1' }, /^vCPU 1 is missing there: -smp has to be larger/, devices],
      [{ machine: 'pc-i440fx-6.2' }, /^-machine there is pc-i440fx-6\.2, the VM is a pc-/, setup],
      [{ ram: '96' }, /^RAM block "pc\.ram" has 32\.0 MiB here and 96\.0 MiB there: -m,/, setup],
      [{ rom: 'large' }, /e1000\.rom" has 64\.0 KiB here and 128 KiB there: its romfile= /, setup],
      [{}, /^the capability postcopy-ram is off there/, setup, []],
    ]
    for (const [options, known, unknown, capabilities] of cases) {
      const told = await refusal(vm, folder, options, capabilities)
      assert.match(told.known, known)
      assert.match(told.unknown, unknown)
    }
  })

  it('is reported by resume in one line about the devices before the details', async () => {
    const folder = await temporaryFolder()
    const vm = await parkMachine(folder)
    const { uri } = await Qemu.incoming(folder, machine(folder, { rng: '' }))
    const { status, stderr } = await new Cli(['resume', vm.directory, uri]).ended
    assert.equal(status, 1)
    assert.match(stderr, /incoming-\d+: QEMU may have refused a device: .* virtio-rng at 00:05\.0/)
    assert.match(stderr, /\n +It takes a "pc-i440fx-7\.2" with the RAM blocks/)
  })

  it('is reported in a recovery as a QEMU without a paused postcopy', async () => {
    const folder = await temporaryFolder()
    const vm = await parkMachine(folder)
    const { qemu, uri } = await Qemu.incoming(folder, machine(folder))
    const closed = once(qemu.child, 'close')
    const args = ['resume', '--recover', vm.directory, uri]
    const { status, stderr } = await new Cli(args).ended
    assert.equal(status, 1)
    assert.match(stderr, /incoming-\d+: the QEMU there may have no paused postcopy: its output/)
    await closed
    assert.match(qemu.stderr, /Not a migration stream/)
  })
})
