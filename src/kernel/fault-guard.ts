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
}

/**
 * Ends the process when one of its threads waits for a page that no thread will place: it writes to
 * standard error, and exits with status 1 as `_exit(2)` does, so no page is read as zeros.
 *
 * It sleeps until {@link FaultGuard.begin}, or until the thread that made it ends in any way without
 * {@link FaultGuard.stop}: terminated, or out of memory. So keep a reference to it while that thread
 * serves the faults. From then on a native thread reads all messages of the userfaultfd. The next
 * thread that serves faults makes its own guard first, which ends this one, and then wakes every range.
 * Closing the userfaultfd for good ends it too. It does not keep the process from exiting.
 *
 * The userfaultfd needs the feature `THREAD_ID` (Linux 4.14); without it nothing is recognized.
 */
export class FaultGuard {
  readonly #handle: NativeFaultGuard

  /**
   * @param threadId - kernel thread id
   * @throws KernelError `EAGAIN`: no thread can be made. `EMFILE`
   */
  constructor(uffd: Userfaultfd, threadId: number, ranges: readonly GuardedRange[]) {
    const handle = native().guardStart(userfaultfdHandle(uffd), threadId)
    if (typeof handle === 'number') throw kernelError(handle, 'pthread_create', 'fault guard')
    this.#handle = handle
    this.describe(ranges)
  }

  /** Replaces the texts of ranges with the same addresses. */
  describe(ranges: readonly GuardedRange[]): void {
    for (const { address, lengthBytes, before, after } of ranges) {
      native().guardDescribe(this.#handle, address, lengthBytes, before, after)
    }
  }

  /** This thread serves no more faults. A page that is waited for already counts too. */
  begin(): void {
    native().guardBegin(this.#handle)
  }

  /** No fault can wait for good any more. May be called twice, and after {@link FaultGuard.begin}. */
  stop(): void {
    native().guardStop(this.#handle)
  }
}
