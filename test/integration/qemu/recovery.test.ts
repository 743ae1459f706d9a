/**
 * Postcopy with a real QEMU at one end is cut at random bytes, again and again, without data loss.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { Destination } from '../../../src/destination/destination.js'
import { resume } from '../../../src/park/index.js'
import { LinkProxy } from '../../../src/testing/index.js'
import { temporaryFolder } from '../../cli/support.js'
import { cleanups } from '../../support/cleanup.js'
import { ended, postcopy, reached } from '../../support/migration.js'
import { requires } from '../../support/requires.js'
import { OpaqueMachine, contentOf, fileMemory, startSource } from './opaque.js'
import { Qemu } from './qemu.js'
import { counts, countingPc, fileHas, listen, openParked } from './support.js'
import { Touchers } from './touch.js'

const MIB = 2 ** 20
const CUTS = 20
/**
 * The handshake has 114 bytes. If it is cut, a source of QEMU 7.2 waits for ever, and a
 * destination crashes; the latter also does shortly after it (docs/interop.md).
 */
const LEAST_BYTES = { source: 115, destination: 100_000 }

/** Where to cut. Printed, so that a failure can be reproduced. */
function cutPoints(role: keyof typeof LEAST_BYTES): number[] {
  const points = Array.from(
    { length: CUTS },
    () => LEAST_BYTES[role] + Math.floor(Math.random() * 300_000),
  )
  console.log(`      QEMU as ${role} is cut after ${points.join(', ')} bytes`)
  return points
}

async function linkTo(uri: string): Promise<LinkProxy> {
  const link = await LinkProxy.listen(uri)
  cleanups.add(() => link.close())
  return link
}

describe('recovery with QEMU', function () {
  this.timeout(120_000)
  before(function () {
    requires(this, 'qemu')
  })

  it(`continues after ${CUTS} cuts at random bytes, QEMU as source`, async () => {
    // More RAM than socket buffers can hold, see below.
    const { qemu, manifest, memoryFile } = await startSource(fileMemory(32), 32)
    const machine = new OpaqueMachine(manifest)
    const [ram] = machine.blocks
    assert(ram !== undefined)
    const touchers = new Touchers()
    await touchers.aim(ram)
    machine.whenLoading(() => touchers.begin())
    const destination = await Destination.listen(machine, {
      uri: 'tcp:127.0.0.1:0',
      capabilities: postcopy,
    })
    cleanups.add(() => destination.close())
    const link = await linkTo(destination.uri)
    // Without a limit, all unsent pages fit into the socket buffers. If a break loses those, QEMU
    // waits for ever (docs/interop.md).
    await qemu.limit({ 'max-postcopy-bandwidth': 20 * MIB })
    await qemu.execute('cont')
    await qemu.execute('migrate', { uri: link.uri })
    await qemu.execute('migrate-start-postcopy')
    await reached(destination, 'postcopy-active')
    await link.cut()
    for (const cutAfterBytes of [...cutPoints('source'), Infinity]) {
      await ended(destination)
      assert.equal(destination.state, 'postcopy-paused')
      await qemu.reached('postcopy-paused')
      await link.change({ cutAfterBytes, target: await destination.recover() })
      await qemu.execute('migrate', { uri: link.uri, resume: true })
    }
    await destination.done
    assert.equal(await qemu.reached('completed', 'failed'), 'completed')
    assert.equal(link.cuts, CUTS + 1)
    await touchers.end()
    assert(fileHas(memoryFile, contentOf(machine, 'm')))
  })

  it(`continues after ${CUTS} cuts at random bytes, QEMU as destination`, async function () {
    requires(this, 'qemuPostcopy')
    const folder = await temporaryFolder()
    const directory = join(folder, 'vm')
    const source = await Qemu.start(folder, countingPc(folder, 16 * MIB))
    await counts(source)
    const park = await listen({ directory })
    await source.execute('migrate', { uri: park.uri ?? '' })
    await park.done
    await source.kill()

    const { qemu, uri } = await Qemu.incoming(folder, countingPc(folder, 16 * MIB))
    const link = await linkTo(uri)
    const parameters = { 'max-postcopy-bandwidth': 20 * MIB }
    const clone = resume(openParked(directory), { uri: link.uri, parameters })
    cleanups.add(() => clone.close())
    await reached(clone, 'postcopy-active')
    await qemu.runs()
    await link.cut()
    for (const [index, cutAfterBytes] of [...cutPoints('destination'), Infinity].entries()) {
      await ended(clone)
      assert.equal(clone.state, 'postcopy-paused')
      await qemu.reached('postcopy-paused')
      const target = `unix:${join(folder, `recover-${index}`)}`
      await qemu.execute('migrate-recover', { uri: target })
      await link.change({ cutAfterBytes, target })
      await clone.recover()
    }
    await clone.done
    assert.equal(await qemu.reached('completed', 'failed'), 'completed')
    assert.equal(link.cuts, CUTS + 1)
    await counts(qemu, qemu.serial.length)
  })
})
