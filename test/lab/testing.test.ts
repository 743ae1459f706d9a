/**
 * Runs alone: it changes the host.
 */
import assert from 'node:assert/strict'
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { closedToOthers } from '../../src/host/needs.js'
import { HostChanges, missing, requires, runAsUser } from '../../src/testing/index.js'
import { temporaryFolder } from '../cli/support.js'
import { requires as needsHere } from '../support/requires.js'

const swappiness = '/proc/sys/vm/swappiness'

describe('the test helpers', () => {
  it('report a missing need and skip with the reason', () => {
    const needs = { minimumKernel: '99.0' }
    assert.match(missing(needs)?.reason ?? '', /^needs Linux 99\.0/)
    const reasons: unknown[] = []
    assert.equal(requires({ skip: (reason) => reasons.push(reason) }, needs), false)
    assert.match(String(reasons[0]), /^needs Linux 99\.0/)
    assert.equal(requires({ skip: () => assert.fail('skipped') }, {}), true)
  })

  it('report what denies access to other users', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'program')
    writeFileSync(file, '')
    for (const [folderMode, fileMode, closed] of [
      [0o755, 0o644, undefined],
      [0o755, 0o600, file],
      [0o700, 0o644, folder],
      [0o711, 0o644, undefined],
    ] as const) {
      chmodSync(folder, folderMode)
      chmodSync(file, fileMode)
      assert.equal(closedToOthers([file]), closed)
    }
  })

  it('fail instead of skipping if the environment requires the need', () => {
    const before = process.env['POSTCOPY_REQUIRE']
    process.env['POSTCOPY_REQUIRE'] = 'cpus,minimumKernel'
    try {
      assert.throws(() => requires({ skip: () => undefined }, { minimumKernel: '99.0' }), {
        code: 'ERR_REQUIRED',
      })
    } finally {
      if (before === undefined) delete process.env['POSTCOPY_REQUIRE']
      else process.env['POSTCOPY_REQUIRE'] = before
    }
  })

  it('undo all changes in reverse order, even if one fails', () => {
    const order: number[] = []
    const host = new HostChanges()
    host.defer(() => order.push(1))
    host.defer(() => {
      throw new Error('stuck')
    })
    host.defer(() => order.push(3))
    assert.throws(() => host.undo(), /stuck/)
    assert.deepEqual(order, [3, 1])
    host.undo()
  })

  it('restore a sysctl', function () {
    needsHere(this, 'root')
    const before = readFileSync(swappiness, 'utf8')
    const host = new HostChanges()
    host.sysctl('vm.swappiness', Number(before) === 10 ? 11 : 10)
    assert.notEqual(readFileSync(swappiness, 'utf8'), before)
    host.undo()
    assert.equal(readFileSync(swappiness, 'utf8'), before)
  })

  it('limit memory in a control group, and remove the group', function () {
    needsHere(this, 'root')
    const host = new HostChanges()
    const { path, procsPath } = host.memoryGroup(64 * 2 ** 20)
    assert.ok(existsSync(procsPath))
    host.undo()
    assert.ok(!existsSync(path))
  })

  it('run a program without capabilities, and with one that is kept', async function () {
    needsHere(this, 'root', 'setpriv')
    const capabilities = async (options?: Parameters<typeof runAsUser>[2]) => {
      const { stdout } = await runAsUser('grep', ['CapEff', '/proc/self/status'], options)
      return BigInt(`0x${stdout.trim().split(/\s+/)[1] ?? ''}`)
    }
    assert.equal(await capabilities(), 0n)
    assert.equal(await capabilities({ keep: ['SYS_PTRACE'] }), 1n << 19n)
    assert.equal((await capabilities({ uid: 0, drop: ['SYS_PTRACE'] })) & (1n << 19n), 0n)
  })

  it('kill a program that does not end', async function () {
    needsHere(this, 'root', 'setpriv')
    const { signal } = await runAsUser('sleep', ['60'], { timeoutMs: 200 })
    assert.equal(signal, 'SIGKILL')
  })
})
