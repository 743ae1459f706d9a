import { kernelError } from './check.js'
import { native } from './load.js'
import { GuardCall } from './native.js'
import type { NativeFaultGuard } from './native.js'
import { type Userfaultfd, userfaultfdHandle } from './userfaultfd.js'

/** Memory registered for missing faults, and the message for a page that can never arrive. */
export interface GuardedRange {
  readonly address: number
  readonly lengthBytes: number
  /** Start of the message; the fault's offset in the range and `after` follow. */
  readonly before: string
  readonly after: string
  /** Size of the host pages of this range; default 4096. */
  readonly pageSizeBytes?: number
  /** Received pages: placed, or in `zeroed`. One bit for 4096 bytes. Default: none. */
  readonly received?: Uint8Array
  /** Pages that were received as zeros, and may still be missing. */
  readonly zeroed?: Uint8Array
}

const none = new Uint8Array(0)

/**
 * Guards that have not begun. A guard copies its bitmaps when it begins, which may be when its
 * thread ends: until then the bitmaps must not be garbage collected.
 */
const idle = new Set<FaultGuard>()

/**
 * Ends the process when one of its threads waits for a page that no thread will place. It writes to
 * standard error and exits with status 1 as `_exit(2)` does, so no missing page is read as zeros.
 * Pages that were received as zeros are an exception: the guard places them, for every thread.
 *
 * The guard sleeps until {@link FaultGuard.begin}, or until the thread that made it ends without
 * {@link FaultGuard.stop}: by an exit, a termination, or lack of memory. From then on a native
 * thread reads all messages of the userfaultfd. The next thread that serves faults makes its own
 * guard first, which ends this one, and then wakes every range. Closing the last handle of the
 * userfaultfd ends the guard too. The guard does not keep the process from exiting.
 *
 * The userfaultfd needs the feature `THREAD_ID` (Linux 4.14): without it no fault is recognized.
 */
export class FaultGuard {
  readonly #handle: NativeFaultGuard
  readonly #ranges = new Map<number, GuardedRange>()

  /**
   * @param threadId - kernel thread id of the guarded thread; 0 guards no thread
   * @throws KernelError `EAGAIN`: no thread can be made. `EMFILE`: too many open files
   */
  constructor(uffd: Userfaultfd, threadId: number, ranges: readonly GuardedRange[]) {
    const handle = native().guardStart(userfaultfdHandle(uffd), threadId)
    if (typeof handle === 'number') throw kernelError(handle, 'pthread_create', 'fault guard')
    this.#handle = handle
    idle.add(this)
    this.describe(ranges)
  }

  /** Adds ranges; a range replaces an earlier one with the same address. */
  describe(ranges: readonly GuardedRange[]): void {
    for (const range of ranges) {
      const { address, lengthBytes, before, after, pageSizeBytes = 4096 } = range
      const { received = none, zeroed = none } = range
      const call = new GuardCall()
      call.address = address
      call.length = lengthBytes
      call.pageSizeBytes = pageSizeBytes
      native().guardDescribe(this.#handle, before, after, received, zeroed, call.numbers)
      this.#ranges.set(address, range)
    }
  }

  /** Call it when this thread stops serving faults. Covers faults that are pending already, too. */
  begin(): void {
    native().guardBegin(this.#handle)
    idle.delete(this)
  }

  /** Ends the guard. May be called twice, and after {@link FaultGuard.begin}. */
  stop(): void {
    native().guardStop(this.#handle)
    idle.delete(this)
  }
}
