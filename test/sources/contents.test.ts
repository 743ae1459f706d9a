/** Every kind of saved VM: its pages are those that another reader finds. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import {
  type SavedOptions,
  inspectSaved,
  listSnapshots,
  recognize,
} from '../../src/sources/index.js'
import { temporaryFolder } from '../cli/support.js'
import { checksums, contents, sample } from './samples.js'
import { opened, refuses } from './support.js'

interface Sample {
  readonly format: string
  readonly machine?: string
  readonly offset?: number
  readonly wasRunning: boolean
  readonly dataPages: number
}

const OLD = 'pc-i440fx-7.2'
const saved: Readonly<Record<string, Sample>> = {
  'mr11-plain': { format: 'mapped-ram', wasRunning: false, dataPages: 3840 },
  'mr11-stale': { format: 'mapped-ram', wasRunning: false, dataPages: 3839 },
  'mr11-offset': { format: 'mapped-ram', wasRunning: false, dataPages: 3840, offset: 0x1234 },
  'mr11-virtiomem': { format: 'mapped-ram', wasRunning: false, dataPages: 3840 },
  'st7-exec': { format: 'stream', wasRunning: false, dataPages: 3840, machine: OLD },
  'st11-file-offset': { format: 'stream', wasRunning: false, dataPages: 3840, offset: 4096 },
  'st11-live': { format: 'stream', wasRunning: false, dataPages: 3840 },
  'st11-bgsnap': { format: 'stream', wasRunning: true, dataPages: 3840 },
  'lv-raw': { format: 'libvirt', wasRunning: true, dataPages: 3840 },
  'lv-sparse': { format: 'libvirt', wasRunning: true, dataPages: 3840 },
  'sv11.qcow2#2': { format: 'qcow2', wasRunning: true, dataPages: 3840 },
  'sv11.qcow2#4': { format: 'qcow2', wasRunning: true, dataPages: 3840 },
  'sv11.qcow2#6': { format: 'qcow2', wasRunning: true, dataPages: 3840 },
  'sv11-2m.qcow2#2': { format: 'qcow2', wasRunning: true, dataPages: 3840 },
}

/** The index must not be beside a sample, which other tests use, too. */
async function optionsOf(snapshot: string | undefined, offset = 0): Promise<SavedOptions> {
  const index = join(await temporaryFolder(), 'index')
  return { index, offset, ...(snapshot === undefined ? {} : { snapshot }) }
}

describe('a saved VM', () => {
  for (const [name, { format, machine, offset, wasRunning, dataPages }] of Object.entries(saved)) {
    it(`has the pages that another reader finds: ${name}`, async () => {
      const [file = '', snapshot] = name.split('#')
      const options = await optionsOf(snapshot, offset)
      const path = sample(file)
      assert.equal(await recognize(path, offset), format)
      const image = await opened(path, options)
      assert.deepEqual(checksums(image), contents[name])
      assert.equal(image.machineType, machine ?? 'pc-i440fx-11.1')
      assert.equal(image.wasRunning, wasRunning)
      const ram = image.blocks.find((block) => block.name === 'pc.ram')
      assert.equal(ram?.data.count(), dataPages)
      assert.equal(image.hasChanged, false)
      assert.equal(image.description === undefined, false)
    })
  }

  it('with a device that is loaded before RAM keeps the section of that device', async () => {
    const path = sample('mr11-virtiomem')
    const { earlySections, devices } = await opened(path)
    const early = Buffer.from(earlySections).toString('latin1')
    assert.equal(earlySections.length, 99)
    assert.match(early, /virtio-mem-device-early/)
    assert.doesNotMatch(Buffer.from(devices).toString('latin1'), /virtio-mem-device-early/)
    const report = await inspectSaved(path)
    assert.equal(report.devices?.[0]?.idstr, '0000:00:02.0/virtio-mem-device-early')
  })

  it('of libvirt has the name, the UUID and the XML of its domain', async () => {
    const { libvirt } = await opened(sample('lv-sparse'))
    assert.equal(libvirt?.name, 't1')
    assert.match(libvirt.uuid ?? '', /^a3c7a881-/)
    assert.match(libvirt.xml, /^<domain type='qemu'[^]*<\/domain>\s*$/)
    assert.match(libvirt.cookie ?? '', /^<cookie>[^]*<\/cookie>\s*$/)
    assert.deepEqual(
      [libvirt.version, libvirt.format, libvirt.payloadOffset],
      [2, 'sparse', 0x105b6],
    )
  })

  it('in a qcow2 image is listed with the other snapshots', async () => {
    const snapshots = (await listSnapshots(sample('sv11.qcow2'))) ?? []
    assert.deepEqual(
      snapshots.map(({ id, name }) => `${id} ${name}`),
      ['2 second-one', '3 by-job', '4 third', '5 mr', '6 pc'],
    )
    assert.equal(await listSnapshots(sample('st7-exec')), undefined)
  })

  it('of a kind that QEMU writes without its pages is refused by name', async () => {
    await refuses(sample('mr11-bgsnap'), 'ERR_SAVED_REFUSED', /mapped-ram and background-snapshot/)
    const ignored = sample('mr11-ignored')
    await refuses(ignored, 'ERR_SAVED_REFUSED', /RAM block "m" is not in the file.*--memory m=FILE/)
    const snapshot = { snapshot: 'mr' }
    await refuses(sample('sv11.qcow2'), 'ERR_SAVED_REFUSED', /savevm with .*mapped-ram/, snapshot)
    assert.equal(existsSync(`${sample('sv11.qcow2')}.snapshot-5.postcopy-index`), false)
  })

  it('that is compressed is not read in place, and the error names the command that unpacks it', async () => {
    for (const name of ['lv-gzip', 'lv-zstd']) {
      await refuses(
        sample(name),
        'ERR_SAVED_REFUSED',
        /compressed with (gzip|zstd).*`postcopy resume`/,
      )
    }
  })
})
