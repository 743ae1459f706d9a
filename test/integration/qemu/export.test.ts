/** A counting guest that was parked by postcopy, and is loaded from an exported file. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { exportVm } from '../../../src/park/index.js'
import { temporaryFolder } from '../../cli/support.js'
import { requires } from '../../support/requires.js'
import { Qemu } from './qemu.js'
import { counts, countingPc, fileHas, listen, memoryOf, openParked, parkedRam } from './support.js'

const MIB = 2 ** 20

describe('an exported VM', function () {
  before(function () {
    requires(this, 'qemuPostcopy')
  })

  it('is loaded by QEMU from a stream, with the parked memory, and continues', async () => {
    const folder = await temporaryFolder()
    const [directory, file] = [join(folder, 'vm'), join(folder, 'exported')]
    const machine = countingPc(folder, 8 * MIB)
    const source = await Qemu.start(folder, machine)
    await counts(source)
    const park = await listen({ directory })
    await source.enable('postcopy-ram')
    // So slow that precopy does not converge before the switch.
    await source.limit({ 'max-bandwidth': MIB })
    await source.execute('migrate', { uri: park.uri })
    await source.execute('migrate-start-postcopy')
    await source.limit({ 'max-bandwidth': 0 })
    await park.done
    await source.kill()
    assert.equal(park.manifest?.way, 'postcopy')

    const vm = openParked(directory)
    await exportVm(vm, file)
    const qemu = await Qemu.start(folder, [...machine, '-S', '-incoming', `exec:cat ${file}`])
    assert.equal(await qemu.reached('completed', 'failed'), 'completed')
    const memory = await memoryOf(qemu, folder, MIB, 31 * MIB)
    assert(fileHas(memory, parkedRam(vm, directory, 'pc.ram', MIB)))
    await qemu.execute('cont')
    await counts(qemu)
  })
})
