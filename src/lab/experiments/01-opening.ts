/** Opening a userfaultfd: permissions, the handshake, what poll returns. Rows 1 to 3. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  Mode,
  RawUserfaultfd,
  experiment,
  must,
  openSyscall,
  outcomeName,
  step,
  syscall,
} from '../index.js'
import type { Lab } from '../index.js'

const sysctl = '/proc/sys/vm/unprivileged_userfaultfd'
const eventFork = 2n
const nonblock = 0o4000

/** A program that tries the three open methods, and then the feature that needs a capability. */
const tryOpenMethods = (index: string, device: string) => `
import { openDevice, openSyscall, outcomeName, RawUserfaultfd } from ${JSON.stringify(index)}
const full = openSyscall(0)()
const user = openSyscall(1)()
const device = openDevice(0, ${JSON.stringify(device)})()
const any = [full, user, device].find((fd) => fd >= 0)
const fork = any === undefined ? 'no descriptor' : new RawUserfaultfd(any).api(${eventFork}n).errno
console.log(JSON.stringify([...[full, user, device].map(outcomeName), fork]))
`

/** Makes a device node of our own, so that the permissions of the host's node stay as they are. */
function openForAll(lab: Lab): string {
  const { number } =
    /^\s*(?<number>\d+) userfaultfd$/m.exec(lab.readFile('/proc/misc') ?? '')?.groups ?? {}
  const node = join(lab.scratch, 'userfaultfd')
  lab.command('mknod', '-m', '666', node, 'c', '10', number ?? '0')
  return node
}

export const openMatrix = experiment({
  id: 'open-matrix',
  tags: ['opening', 'permissions'],
  question:
    'Which users may open a userfaultfd, by which method, and which may request EVENT_FORK?',
  method:
    'Six credentials try userfaultfd(0), userfaultfd(UFFD_USER_MODE_ONLY), /dev/userfaultfd and ' +
    'UFFDIO_API with EVENT_FORK; the last with a device node of mode 0666.',
  needs: {
    root: true,
    otherUsers: true,
    commands: ['setpriv', 'mknod'],
    features: ['EVENT_FORK'],
  },
  changes: [sysctl],
  deadlineMs: 60_000,
  expected: {
    since: '6.1',
    values: {
      root: ['ok', 'ok', 'ok', 'ok'],
      'root without CAP_SYS_PTRACE': ['EPERM', 'ok', 'ok', 'EPERM'],
      'user, sysctl 0': ['EPERM', 'ok', 'EACCES', 'EPERM'],
      'user with CAP_SYS_PTRACE': ['ok', 'ok', 'EACCES', 'ok'],
      'user, sysctl 1': ['ok', 'ok', 'EACCES', 'EPERM'],
      'user, device of mode 0666': ['EPERM', 'ok', 'ok', 'EPERM'],
    },
    source: 'userfaultfd(2), Documentation/admin-guide/mm/userfaultfd.rst; kernel-behaviour 1.1',
  },
  run(lab) {
    const index = new URL('../index.js', import.meta.url).href
    const script = (device: string) => {
      const path = join(lab.scratch, `open-methods-${device.replaceAll('/', '-')}.mjs`)
      writeFileSync(path, tryOpenMethods(index, device), { mode: 0o644 })
      return path
    }
    const standard = script('/dev/userfaultfd')
    const attempt = (path: string, ...flags: string[]) =>
      JSON.parse(lab.command('setpriv', ...flags, process.execPath, path)) as string[]
    const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups']
    lab.set(sysctl, 0)
    const seen = {
      root: attempt(standard, '--reuid=0'),
      'root without CAP_SYS_PTRACE': attempt(
        standard,
        '--bounding-set=-sys_ptrace',
        '--inh-caps=-sys_ptrace',
      ),
      'user, sysctl 0': attempt(standard, ...nobody),
      'user with CAP_SYS_PTRACE': attempt(
        standard,
        ...nobody,
        '--inh-caps=+sys_ptrace',
        '--ambient-caps=+sys_ptrace',
      ),
      'user, device of mode 0666': attempt(script(openForAll(lab)), ...nobody),
    }
    lab.set(sysctl, 1)
    return { ...seen, 'user, sysctl 1': attempt(standard, ...nobody) }
  },
})

export const openHere = experiment({
  id: 'open-here',
  tags: ['opening', 'permissions'],
  question: 'By which methods can the current user open a userfaultfd?',
  method: 'Opens one by each method, also with unknown flags, and reads before the handshake.',
  needs: { userfaultfd: false },
  expected: {
    since: '5.11',
    values: {
      'unknown flag': 'EINVAL',
      'user-mode only': 'ok',
      'read before the handshake': 'EINVAL',
      'a range ioctl before the handshake': 'EINVAL',
      'target in /proc': 'anon_inode:[userfaultfd]',
      'fdinfo lines': ['pending', 'total', 'API'],
    },
    source: 'userfaultfd(2); kernel-behaviour 1.1, opening detail',
  },
  run(lab) {
    const fd = must(openSyscall(1 + nonblock)(), 'userfaultfd')
    const uffd = new RawUserfaultfd(fd)
    const early = outcomeName(syscall('read', fd, new Uint8Array(32), 32))
    const range = uffd.register(0x10000, 4096, Mode.MISSING).errno
    uffd.api()
    const names =
      lab.readFile(`/proc/self/fdinfo/${fd}`)?.match(/^(pending|total|API)(?=:)/gm) ?? []
    return {
      'unknown flag': outcomeName(openSyscall(1 + 2)()),
      'user-mode only': 'ok',
      'read before the handshake': early,
      'a range ioctl before the handshake': range,
      'target in /proc': lab.command('readlink', `/proc/${process.pid}/fd/${fd}`),
      'fdinfo lines': names,
    }
  },
})

export const apiHandshake = experiment({
  id: 'api-handshake',
  tags: ['opening', 'features'],
  question:
    'Is the descriptor unusable after a failed handshake, and can a successful one be repeated?',
  method: 'UFFDIO_API with a wrong api, with an unknown feature, without features, and once more.',
  expected: {
    values: {
      'wrong api': ['EINVAL', '0x0', '0x0', '0x0'],
      'unknown feature': ['EINVAL', '0x0', '0x0', '0x0'],
      'no features': ['ok', '0x8000000000000003'],
      'once more': ['EINVAL', '0x0', '0x0', '0x0'],
      'returns more than was requested': true,
      'without an argument': 'EFAULT',
    },
    source: 'ioctl_userfaultfd(2), UFFDIO_API; kernel-behaviour 1.2',
  },
  run(lab) {
    const uffd = new RawUserfaultfd(must(openSyscall(1 + nonblock)(), 'userfaultfd'))
    const hex = (mask: bigint) => `0x${mask.toString(16)}`
    const show = (answer: ReturnType<RawUserfaultfd['api']>) => [
      answer.errno,
      ...[answer.api, answer.features, answer.ioctls].map(hex),
    ]
    const wrong = uffd.api(0n, 0xabn)
    const unknown = uffd.api(1n << 60n)
    const good = uffd.api()
    const again = uffd.api()
    lab.note(`the kernel's features are ${hex(good.features)}`)
    return {
      'wrong api': show(wrong),
      'unknown feature': show(unknown),
      'no features': [good.errno, hex(good.ioctls)],
      'once more': show(again),
      'returns more than was requested': good.features > 0n,
      'without an argument': outcomeName(syscall('ioctl', uffd.fd, 0xc018aa3f, 0)),
    }
  },
})

export const pollStates = experiment({
  id: 'poll-states',
  tags: ['opening', 'messages'],
  question:
    'What does poll(2) return before the handshake, on a blocking descriptor, idle, and with a fault?',
  method: 'poll(2) without waiting in each of the states.',
  expected: {
    values: { 'before the handshake': 8, blocking: 8, idle: 0, 'unread fault': 1 },
    source: 'userfaultfd(2): POLLERR without O_NONBLOCK; kernel-behaviour 1.1',
  },
  async run(lab) {
    const fresh = new RawUserfaultfd(must(openSyscall(1 + nonblock)(), 'userfaultfd'))
    const before = fresh.poll()
    const blocking = lab.openWith({ nonblock: false }).poll()
    const uffd = lab.open()
    const memory = lab.map('anon', { pages: 1 })
    uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
    const idle = uffd.poll()
    await lab.thread(step.load(memory.address)).parks()
    return { 'before the handshake': before, blocking, idle, 'unread fault': uffd.poll() }
  },
})
