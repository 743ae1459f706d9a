/**
 * The requirements of a test on the host. A missing one skips the test with a reason, unless
 * `POSTCOPY_REQUIRE` names it (as in CI): then the skip is a failure.
 */
import { appendFileSync, existsSync, readFileSync, readdirSync } from 'node:fs'
import { readPrivileges } from '../../src/kernel/index.js'
import { closedToOthers } from '../../src/host/needs.js'

/**
 * Every capability that a test may require, with a check that returns a reason if it is missing.
 */
const checks = {
  /** Faults in kernel mode can be handled, not only those in user mode. */
  kernelFaults: () =>
    probe(
      () => opensForKernelFaults(),
      'this user may only handle user-mode faults (see postcopy doctor)',
    ),
  root: () => (process.getuid?.() === 0 ? undefined : 'not root'),
  qemu: () => onPath('qemu-system-x86_64', 'qemu-system-x86'),
  /** A QEMU that can receive a postcopy. */
  qemuPostcopy: () =>
    onPath('qemu-system-x86_64', 'qemu-system-x86') ??
    probe(
      () => opensForKernelFaults('syscall'),
      'QEMU takes a postcopy only where userfaultfd(2) opens for faults of the kernel (root, or sysctl vm.unprivileged_userfaultfd=1)',
    ),
  /** The parts of a Linux guest. */
  linuxGuest: () =>
    onPath('busybox', 'busybox-static') ??
    onPath('cpio', 'cpio') ??
    (readdirSync('/boot').some((file) => /^vmlinuz-.*-cloud-amd64$/.test(file))
      ? undefined
      : 'no /boot/vmlinuz-*-cloud-amd64 (Debian package linux-image-cloud-amd64)'),
  strace: () => onPath('strace', 'strace'),
  ip: () => onPath('ip', 'iproute2'),
  setpriv: () => onPath('setpriv', 'util-linux'),
  /** Other users than root can run what was built here. */
  otherUsers: () => {
    const closed = closedToOthers()
    return closed === undefined ? undefined : `${closed} is closed to other users (chmod o+rX)`
  },
  openssl: () => onPath('openssl', 'openssl'),
  zstd: () => onPath('zstd', 'zstd'),
  xz: () => onPath('xz', 'xz-utils'),
  bzip2: () => onPath('bzip2', 'bzip2'),
  lzop: () => onPath('lzop', 'lzop'),
  chromium: () => onPath('chromium', 'chromium'),
  /** 64 MiB of free 2 MiB pages, or root, who may add them. */
  hugePages: () =>
    freeHugePages() >= 32 || process.getuid?.() === 0
      ? undefined
      : `${freeHugePages()} free 2 MiB pages, 32 needed (sysctl vm.nr_hugepages)`,
  transparentHugePages: () =>
    probe(
      () => ['always', 'madvise'].includes(readPrivileges().transparentHugePages.anon ?? ''),
      'no transparent huge pages (/sys/kernel/mm/transparent_hugepage/enabled)',
    ),
} satisfies Record<string, () => string | undefined>

export type Requirement = keyof typeof checks

/** Skips the calling test, or the suite of the calling hook, if something is missing. */
export function requires(context: Mocha.Context, ...needs: Requirement[]): void {
  for (const need of needs) {
    const reason = checks[need]()
    if (reason === undefined) continue
    const demanded = (process.env['POSTCOPY_REQUIRE'] ?? '').split(',')
    if (demanded.includes(need)) {
      throw new Error(`POSTCOPY_REQUIRE names ${need}, but: ${reason}`)
    }
    const titles: string[] = []
    context.test?.parent?.eachTest((test) => titles.push(test.fullTitle()))
    const { test } = context
    const isHook = test !== undefined && 'type' in test && test.type === 'hook'
    for (const title of isHook ? titles : [context.test?.fullTitle() ?? '']) {
      noteSkip(title, `${need}: ${reason}`)
    }
    context.skip()
  }
}

/** For the end of the run: tests run in several processes. */
function noteSkip(title: string, reason: string): void {
  const file = process.env['POSTCOPY_SKIPS']
  if (file !== undefined) appendFileSync(file, `${JSON.stringify({ title, reason })}\n`)
}

function onPath(command: string, debianPackage: string): string | undefined {
  const found = (process.env['PATH'] ?? '')
    .split(':')
    .some((dir) => existsSync(`${dir}/${command}`))
  return found ? undefined : `no ${command} (Debian package ${debianPackage})`
}

function freeHugePages(): number {
  return Number(readFileSync('/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages', 'utf8'))
}

function probe(check: () => boolean, reason: string): string | undefined {
  return check() ? undefined : reason
}

/** @param method - one open method; default: any */
function opensForKernelFaults(method?: 'syscall'): boolean {
  return readPrivileges().openMethods.some(
    (tried) =>
      !tried.userModeOnly && tried.error === undefined && (method ?? tried.method) === tried.method,
  )
}
