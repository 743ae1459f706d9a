import assert from 'node:assert/strict'
import { join } from 'node:path'
import { runInside } from './inside.js'
import { temporaryFolder } from './support.js'

describe('--qmp on tcp', () => {
  const commands = {
    guest: ['guest', '--monitor', 'none', '--qmp', 'tcp::0'],
    park: ['park', 'tcp::0', '--to', 'DIR', '--qmp', 'tcp:127.0.0.1:0'],
    resume: ['resume', 'DIR', 'tcp::1', '--qmp', 'tcp:0.0.0.0:0'],
  }
  for (const [name, args] of Object.entries(commands)) {
    it(`is refused by ${name} before it does anything, without --qmp-tcp-insecure`, async () => {
      const directory = join(await temporaryFolder(), 'vm')
      const own = args.map((arg) => (arg === 'DIR' ? directory : arg))
      const { status, stdout, stderr } = await runInside(own)
      assert.equal(status, 1)
      assert.equal(stdout, '')
      assert.match(stderr, /^postcopy: QMP on tcp:\S* has no password.* \[ERR_QMP_INSECURE\]/)
      assert.equal(stderr.split('\n').length, 2)
    })
  }
})
