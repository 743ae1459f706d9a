import { kernelError } from './check.js'
import { native } from './load.js'
import type { NativeFaultGuard } from './native.js'
import { type Userfaultfd, userfaultfdHandle } from './userfaultfd.js'

/** Memory that is registered for missing faults, and what to write when a page of it cannot arrive. */
export interface GuardedRange {
  readonly address: number
  readonly lengthBytes: number
  /** Followed by the offset of the page in the range, and by {@link GuardedRange.after}. */
  readonly before: string
  readonly after: string
  /** Of its pages; default 4096. */
  readonly pageSizeBytes?: number
  /** Pages that are in place, or in `zeroed`: one bit for 4096 bytes. Default: none. */
  readonly received?: Uint8Array
  /** Received pages that are zero and may be missing. */
  readonly zeroed?: Uint8Array
}

const none = new Uint8Array(0)

/** They read bitmaps when they begin, also where their thread ends: the bitmaps must not be collected. */
const idle = new Set<FaultGuard>()

/**
 * Ends the process when one of its threads waits for a page that no thread will place: it writes to
 * standard error, and exits with status 1 as `_exit(2)` does, so no page is read as zeros. Pages that
 * were received as zeros are no such pages: the guard places them, for every thread.
 *
 * It sleeps until {@link FaultGuard.begin}, or until the thread that made it ends in any way without
 * {@link FaultGuard.stop}: terminated, or out of memory. From then on a native thread reads all messages of the userfaultfd. The next
 * thread that serves faults makes its own guard first, which ends this one, and then wakes every range.
 * Closing the userfaultfd for good ends it too. It does not keep the process from exiting.
 *
 * The userfaultfd needs the feature `THREAD_ID` (Linux 4.14); without it nothing is recognized.
 */
export class FaultGuard {
  readonly #handle: NativeFaultGuard
  readonly #ranges = new Map<number, GuardedRange>()

  /**
   * @param threadId - kernel thread id; 0 guards no thread
   * @throws KernelError `EAGAIN`: no thread can be made. `EMFILE`
   */
  constructor(uffd: Userfaultfd, threadId: number, ranges: readonly GuardedRange[]) {
    const handle = native().guardStart(userfaultfdHandle(uffd), threadId)
    if (typeof handle === 'number') throw kernelError(handle, 'pthread_create', 'fault guard')
    this.#handle = handle
    idle.add(this)
    this.describe(ranges)
  }

  /** Replaces ranges with the same addresses. */
  describe(ranges: readonly GuardedRange[]): void {
    for (const range of ranges) {
      const { address, lengthBytes, before, after, pageSizeBytes = 4096 } = range
      const { received = none, zeroed = none } = range
      native().guardDescribe(
        this.#handle,
        address,
        lengthBytes,
        before,
        after,
        pageSizeBytes,
        received,
        zeroed,
      )
      this.#ranges.set(address, range)
    }
  }

  /** This thread serves no more faults. A page that is waited for already counts too. */
  begin(): void {
    native().guardBegin(this.#handle)
    idle.delete(this)
  }

  /** No fault can wait for good any more. May be called twice, and after {@link FaultGuard.begin}. */
  stop(): void {
    native().guardStop(this.#handle)
    idle.delete(this)
  }
}
