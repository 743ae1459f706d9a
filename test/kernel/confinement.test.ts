/**
 * The advice of doctor and of errors where a container refuses userfaultfd: none that cannot help.
 */
import assert from 'node:assert/strict'
import { fileURLToPath } from 'node:url'
import type { Confinement } from '../../src/kernel/confinement.js'
import { remediesFor, remedyFor } from '../../src/kernel/open-remedy.js'
import { runConfined } from '../../src/testing/index.js'
import type { ConfinedOptions } from '../../src/testing/index.js'
import { requires } from '../support/requires.js'

const main = fileURLToPath(new URL('../../bundle/cli/main.js', import.meta.url))
const kernel = new URL('../../src/kernel/index.js', import.meta.url).href

const plain: Confinement = {
  seccompFilter: false,
  userNamespace: false,
  hostUid: 1000,
  deviceNode: true,
  kernel: [6, 8],
}
const anyUser = 65534

interface Report {
  facts: { id: string; found: string; remedy?: string }[]
}

async function doctor(options: ConfinedOptions): Promise<(id: string) => string> {
  const { stdout, stderr } = await runConfined(process.execPath, [main, 'doctor', '--json'], {
    timeoutMs: 60_000,
    ...options,
  })
  assert(stdout.startsWith('{'), stderr)
  const { facts } = JSON.parse(stdout) as Report
  return (id) => {
    const fact = facts.find((one) => one.id === id)
    assert(fact !== undefined, id)
    return fact.remedy ?? ''
  }
}

/** The error message of an open for faults in kernel mode. */
async function openError(options: ConfinedOptions): Promise<string> {
  const script = `import { Userfaultfd } from ${JSON.stringify(kernel)}
    try { Userfaultfd.open({ method: 'syscall' }); console.log('opened') }
    catch (error) { console.log(error.code, error.message) }`
  const args = ['--input-type=module', '-e', script]
  const { stdout } = await runConfined(process.execPath, args, { timeoutMs: 60_000, ...options })
  return stdout.trim()
}

describe('advice under a seccomp filter', () => {
  for (const errno of ['EPERM', 'ENOSYS'] as const) {
    it(`that returns ${errno} is to allow the call there, and names no kernel setting`, async function () {
      requires(this, 'root', 'otherUsers')
      const filtered = { uid: anyUser, seccomp: { syscalls: ['userfaultfd'], errno } }
      const remedy = await doctor(filtered)
      for (const id of ['open-syscall', 'open-syscall-user-mode-only']) {
        assert.match(remedy(id), /^a seccomp profile that allows userfaultfd/)
        assert.doesNotMatch(remedy(id), /sysctl|CAP_SYS_PTRACE|Linux \d/)
      }
      assert.match(remedy('userfaultfd'), /seccomp profile/)
      assert.match(remedy('userfaultfd'), /setfacl/, 'the device does not need the call')
      assert.doesNotMatch(remedy('userfaultfd'), /sysctl|CAP_SYS_PTRACE/)

      const message = await openError(filtered)
      assert.match(message, /seccomp profile that allows userfaultfd/)
      assert.doesNotMatch(message, /sysctl|CAP_SYS_PTRACE/)
    })
  }
})

describe('advice in a user namespace', () => {
  it('is for the host, because its capabilities count', async function () {
    requires(this, 'root', 'otherUsers')
    const remedy = await doctor({ uid: anyUser, userNamespace: 'root' })
    assert.match(remedy('open-syscall'), /^on the host: sysctl/)
    assert.match(remedy('open-device'), new RegExp(`^on the host: setfacl -m u:${anyUser}:rw`))
    assert.match(remedy('event-fork'), /outside of this user namespace/)
    const open = await openError({ uid: anyUser, userNamespace: 'root' })
    assert.equal(open, 'opened', 'user-mode faults are open to all')
  })
})

describe('the remedy for a userfaultfd that does not open', () => {
  const call = (userModeOnly: boolean, error?: string) =>
    ({ method: 'syscall', userModeOnly, error }) as const
  const device = (error: string) => ({ method: 'device', userModeOnly: false, error }) as const

  for (const [title, answer, others, confinement, expected] of [
    ['rights', call(false, 'EPERM'), [call(true)], {}, /^sysctl .*CAP_SYS_PTRACE$/],
    [
      'a filter',
      call(false, 'EPERM'),
      [call(true, 'EPERM')],
      { seccompFilter: true },
      /^a seccomp/,
    ],
    ['a security module', call(true, 'EPERM'), [], {}, /^a rule of the security module/],
    ['an old kernel', call(true, 'EINVAL'), [], { kernel: [5, 10] }, /^Linux 5\.11 or later$/],
    ['a kernel of 5.2', call(true, 'EPERM'), [], { kernel: [5, 2] }, /^Linux 5\.11 or later$/],
    [
      'another filter',
      call(true, 'ENOSYS'),
      [],
      {},
      /the kernel has it, because \/dev\/userfaultfd exists/,
    ],
    ['no userfaultfd', call(true, 'ENOSYS'), [], { deviceNode: false }, /^a kernel with CONFIG/],
    ['no device', device('ENOENT'), [], {}, /^pass \/dev\/userfaultfd into the container/],
    ['no device yet', device('ENOENT'), [], { kernel: [5, 15] }, /^Linux 6\.1 or later/],
    ['the device list', device('EPERM'), [], {}, /^allow \/dev\/userfaultfd in the device list/],
    ['its mode', device('EACCES'), [], {}, /^setfacl/],
  ] as const) {
    it(`names ${title}`, () => {
      const answers = [answer, ...others]
      assert.match(remedyFor(answer, answers, { ...plain, ...confinement }) ?? '', expected)
    })
  }

  it('is printed once if it applies to both methods', () => {
    const answers = [call(false, 'EPERM'), call(true, 'EPERM')]
    const said = remediesFor(answers, { ...plain, seccompFilter: true })
    assert.equal(said.split('seccomp profile').length, 2)
    assert.doesNotMatch(said, / or a seccomp/)
  })
})
