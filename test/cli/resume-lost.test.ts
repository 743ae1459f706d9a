/** What `resume` prints if QEMU's connection ends before all of the memory has arrived. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { appendFileSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { parkBytes } from '../park/support.js'
import { golden } from '../stream/golden.js'
import { cleanups } from '../support/cleanup.js'
import { FakeDestination } from '../support/fake-peer.js'
import { Cli, runCli, temporaryFolder } from './support.js'

/** Reads the first bytes and closes, like a QEMU that waits for a new migration. */
async function refuseRecovery(onData: () => void): Promise<string> {
  const path = join(await temporaryFolder(), 'qemu')
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined)
    socket.once('data', () => {
      onData()
      socket.destroy()
    })
  })
  cleanups.add(() => server.close())
  server.listen(path)
  await once(server, 'listening')
  return `unix:${path}`
}

describe('resume whose QEMU is lost', () => {
  it('advises what to do if that QEMU still runs, and if it has ended', async () => {
    const { directory } = await parkBytes(golden('precopy'))
    const qemu = await FakeDestination.listen()
    const cli = new Cli(['resume', directory, qemu.uri, '--on-demand=never'])
    await cli.seen(/the guest runs at/)
    qemu.reset()
    const { status, stderr } = await cli.ended
    assert.equal(status, 1)
    assert.match(
      stderr,
      /see its own messages\. If the QEMU there still runs, its guest waits for the rest of its memory: migrate_recover there and resume --recover here continue the migration/,
    )
    assert.match(
      stderr,
      /If that QEMU has ended, the guest is lost there; a plain resume into a new QEMU starts it from the parked state/,
    )
    assert.match(stderr, /\S+vm is unchanged \[ERR_CONNECTION_CLOSED\]\n$/)
  })

  for (const hasLog of [true, false]) {
    it(`reports that there is no paused postcopy to recover, ${hasLog ? 'from its log' : 'if that is likely'}`, async () => {
      const { folder, directory } = await parkBytes(golden('precopy'))
      const log = join(folder, 'log')
      writeFileSync(log, 'qemu-system-x86_64: of an earlier run\n')
      const uri = await refuseRecovery(() =>
        appendFileSync(log, 'qemu-system-x86_64: Not a migration stream\n'),
      )
      const withLog = hasLog ? ['--qemu-log', log] : []
      const args = ['resume', '--recover', directory, uri, '--json', ...withLog]
      const { status, stdout, stderr } = await runCli(args)
      assert.equal(status, 1)
      const first = hasLog
        ? /: the QEMU there has no paused postcopy: it took the recovery for a new migration and refused it\. /
        : /: the QEMU there may have no paused postcopy: its output then has "Not a migration stream"\. /
      assert.match(stderr, first)
      assert.match(stderr, /migrate_recover there and resume --recover/)
      assert.match(stderr, /a plain resume into a new QEMU starts it from the parked state/)
      assert.equal(/QEMU's output:\n +qemu-system-x86_64: Not a migr/.test(stderr), hasLog, stderr)
      assert.doesNotMatch(stderr, /The guest was sent|quit -f|\?\.|earlier run/)
      const result = JSON.parse(stdout) as { status: string; guestLocation: string }
      assert.deepEqual([result.status, result.guestLocation], ['postcopy-paused', 'unknown'])
    })
  }
})
