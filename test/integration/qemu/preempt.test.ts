/** The preempt channel with a real QEMU 7.2, whose second connection is made at the start. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { resume } from '../../../src/park/index.js'
import { temporaryFolder } from '../../cli/support.js'
import { cleanups } from '../../support/cleanup.js'
import { requires } from '../../support/requires.js'
import { Qemu } from './qemu.js'
import { counts, countingPc, listen, openParked } from './support.js'

const CAPABILITIES = ['postcopy-ram', 'postcopy-preempt']

describe('the preempt channel with QEMU', () => {
  it('is accepted from a source that switches, and offered to a destination', async function () {
    requires(this, 'qemuPostcopy')
    this.timeout(120_000)
    const folder = await temporaryFolder()
    const args = countingPc(folder)
    const source = await Qemu.start(folder, args)
    await counts(source)
    await source.enable(...CAPABILITIES)
    const park = await listen({ directory: join(folder, 'vm') })
    await source.execute('migrate', { uri: park.uri })
    await source.execute('migrate-start-postcopy')
    await park.done
    assert.equal(await source.reached('completed', 'failed'), 'completed')
    await source.kill()

    const { qemu, uri } = await Qemu.incoming(folder, args, CAPABILITIES)
    const clone = resume(openParked(join(folder, 'vm')), {
      uri,
      capabilities: { 'postcopy-preempt': true },
    })
    cleanups.add(() => clone.close())
    await clone.done
    assert.equal(await qemu.reached('completed', 'failed'), 'completed')
    assert(clone.counters.requestedPages > 0, 'pages were requested')
    await qemu.runs()
    await counts(qemu)
  })
})
