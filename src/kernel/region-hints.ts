/** Hints for errors of memory regions: which setting to change. */
import { errnoName, kernelError } from './check.js'
import { describeLimit, hugePageLimit } from './control-groups.js'
import type { RegionKind } from './native.js'

/**
 * Rejects a request for more huge pages than the control group allows. The kernel would reserve
 * them nevertheless, and kill the process with SIGBUS at the first access beyond the limit.
 *
 * @throws KernelError `ENOMEM`
 */
export function checkHugePageLimit(lengthBytes: number): void {
  const hint = groupHint(lengthBytes)
  if (hint !== undefined) throw kernelError(-12, 'mmap', `hugetlb, ${lengthBytes} bytes`, hint)
}

function groupHint(lengthBytes: number): string | undefined {
  const limit = hugePageLimit()
  if (limit === undefined || limit.headroomBytes >= lengthBytes) return undefined
  return `the control group grants too few 2 MiB pages: ${describeLimit(limit)}; raise that limit`
}

/** Explains why a reserved huge page cannot be allocated, with the numbers of a known limit. */
export function hugePageShortage(): string {
  const limit = hugePageLimit()
  return limit === undefined
    ? 'no huge page is left: the pool is exhausted; raise vm.nr_hugepages (sysctl -w vm.nr_hugepages=N)'
    : `no huge page is left: the control group has ${describeLimit(limit)}; raise that limit, or vm.nr_hugepages if the pool is exhausted`
}

export function creationHint(errno: number, syscall: string, kind: RegionKind): string | undefined {
  const code = errnoName(errno)
  if (code === 'ENOMEM' && kind === 'hugetlb') {
    return 'not enough free 2 MiB pages: raise vm.nr_hugepages (sysctl -w vm.nr_hugepages=N)'
  }
  if (code === 'ENOMEM') return 'not enough memory: see MemAvailable and vm.overcommit_memory'
  if (code === 'EINVAL' && syscall !== 'madvise') {
    return kind === 'file'
      ? 'the length must be whole pages and not exceed that of the file, which must be a regular file'
      : 'the length must be whole pages and more than 0'
  }
  return undefined
}

export function faultHint(code: string): string | undefined {
  if (code !== 'EFAULT') return undefined
  return 'the kernel touched a missing page, and a user-mode-only userfaultfd does not handle such faults: touch() the range first'
}

export function scanHint(code: string): string | undefined {
  if (code === 'ENOTTY') return 'PAGEMAP_SCAN needs Linux 6.7'
  if (code === 'EPERM') return 'the range is not registered for write-protect with WP_ASYNC'
  return undefined
}
