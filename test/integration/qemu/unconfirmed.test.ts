/**
 * A resume whose QEMU runs the guest, but whose answers are lost: no message may
 * deny that it runs.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { LinkProxy } from '../../../src/testing/index.js'
import { Cli, temporaryFolder } from '../../cli/support.js'
import { cleanups } from '../../support/cleanup.js'
import { requires } from '../../support/requires.js'
import { Qemu } from './qemu.js'
import { counts, countingPc, listen } from './support.js'

describe('a resume whose answers are lost', function () {
  before(function () {
    requires(this, 'qemuPostcopy')
  })

  it('reports that the location of the guest is not known, and continues with --recover', async () => {
    const folder = await temporaryFolder()
    const directory = join(folder, 'vm')
    const first = await Qemu.start(folder, countingPc(folder))
    await counts(first)
    const park = await listen({ directory })
    await first.limit({ 'max-bandwidth': 0 })
    await first.execute('migrate', { uri: park.uri })
    await park.done
    await first.kill()

    const { qemu, uri } = await Qemu.incoming(folder, countingPc(folder))
    const link = await LinkProxy.listen(uri)
    cleanups.add(() => link.close())
    await link.change({ dropsAnswers: 'after-first' })
    const lost = new Cli(['resume', directory, link.uri, '--on-demand', 'never', '--json'])
    await qemu.runs()
    await link.cut()
    const { status, stdout, stderr } = await lost.ended
    assert.equal(status, 1, stderr)
    assert.match(stderr, /whether it runs there is not known/)
    assert.match(stderr, /info status.*resume --recover/s)
    assert.doesNotMatch(stderr, /does not run there/)
    const result = JSON.parse(stdout) as { status: string; guestLocation: string }
    assert.deepEqual([result.status, result.guestLocation], ['postcopy-paused', 'unknown'])

    // QEMU has the guest, and the recovery that the message advises works at both ends.
    assert.equal(await qemu.reached('postcopy-paused'), 'postcopy-paused')
    await qemu.runs()
    const again = `unix:${join(folder, 'again')}`
    await qemu.execute('migrate-recover', { uri: again })
    const recovery = new Cli(['resume', directory, again, '--recover'])
    const end = await recovery.ended
    assert.equal(end.status, 0, end.stderr)
    await counts(qemu, qemu.serial.length)
  })
})
