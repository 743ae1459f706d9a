import type { HostAddress } from '../units.js'
import { EVENT_STRIDE } from './events.js'
import { exitAfterFailedListener } from './exit.js'
import { NO_HANDLE_HINT, check, checkOptions, closedError, hex, kernelError } from './check.js'
import { featuresFromMask, ioctlsFromMask } from './features.js'
import type { FeatureName, IoctlName } from './features.js'
import { native } from './load.js'
import { openMethods } from './native.js'
import type { NativeUserfaultfd, NativeWatch, OpenMethod } from './native.js'
import { openUserfaultfd, userfaultfdOptionNames } from './open-userfaultfd.js'
import type { UserfaultfdOptions } from './open-userfaultfd.js'

const MOST_EVENTS = 128

export interface RegisterModes {
  missing?: boolean
  writeProtect?: boolean
  minor?: boolean
}

export interface FillOptions {
  /** Leave the threads parked; see {@link Userfaultfd.wake}. Default false. */
  dontWake?: boolean
}

export interface CopyOptions extends FillOptions {
  /** Place the page write-protected. Default false. */
  writeProtect?: boolean
}

export interface MoveOptions extends FillOptions {
  /** Pages missing at the source count as moved. Default false: `ENOENT`. */
  allowSourceHoles?: boolean
}

export interface WatchOptions {
  /** Whether the watch keeps the event loop alive. Default true. */
  ref?: boolean
}

/** Says that somebody forgot `close()`; the addon decides what becomes of the descriptor. */
const forgotten = new FinalizationRegistry<number>((id) => {
  process.emitWarning(
    `userfaultfd ${id} was garbage collected without close(); if ranges are registered for missing or minor faults it stays open`,
    { code: 'POSTCOPY_NOT_CLOSED' },
  )
})

/** For the other files of this floor: the handle of an open userfaultfd. */
export let userfaultfdHandle: (uffd: Userfaultfd) => NativeUserfaultfd

/**
 * A userfaultfd(2): one method per ioctl, with the kernel's verb and without policy.
 *
 * A handle belongs to the thread that made it; the descriptor stays open until the last handle of
 * the process is closed. Closing it wakes whoever is parked, and **what they miss then reads as
 * zeros without a word**. So one with ranges registered for missing or minor faults that was never
 * closed (its worker ended, or it was garbage collected) stays open, and can be attached by its
 * {@link Userfaultfd.id}. One that only protects from writes is closed: writers go on.
 *
 * The filling ioctls return bytes done. That may be less than asked for: go on behind it, and the
 * next call names what is in the way. 0 means that an event waits: read it first. `EEXIST` means
 * that the page is there; its waiters may still sleep, see {@link Userfaultfd.wake}.
 */
export class Userfaultfd {
  readonly id: number
  readonly fd: number
  /** Enabled by the handshake. */
  readonly features: ReadonlySet<FeatureName>
  /** What this kernel has. */
  readonly available: ReadonlySet<FeatureName>
  /** Faults from inside the kernel are not handled but fail with `EFAULT`. */
  readonly userModeOnly: boolean
  readonly door: OpenMethod
  /** What {@link Userfaultfd.read} read last: {@link EVENT_STRIDE} numbers each. Always the same array. */
  readonly events = new Float64Array(MOST_EVENTS * EVENT_STRIDE)
  #handle: NativeUserfaultfd | undefined
  readonly #watches = new Set<NativeWatch>()

  private constructor(handle: NativeUserfaultfd) {
    const info = native().uffdInfo(handle)
    this.#handle = handle
    this.id = info.id
    this.fd = info.fd
    this.features = featuresFromMask(info.features)
    this.available = featuresFromMask(info.available)
    this.userModeOnly = info.userModeOnly
    this.door = openMethods[info.door] ?? 'syscall'
    forgotten.register(this, this.id, this)
  }

  /**
   * Opens `/dev/userfaultfd`, else the system call, else that for user-mode faults only; with
   * `O_CLOEXEC | O_NONBLOCK`.
   *
   * @throws KernelError `EPERM`/`EACCES`: nobody let us in, the hint says who could. `EINVAL`: the
   *   kernel lacks a feature. `EPERM` of `UFFDIO_API`: `EVENT_FORK` without CAP_SYS_PTRACE
   */
  static open(options: UserfaultfdOptions = {}): Userfaultfd {
    checkOptions(options, userfaultfdOptionNames)
    return new Userfaultfd(openUserfaultfd(options))
  }

  /**
   * Another handle on a userfaultfd of this process.
   *
   * @throws KernelError `ENOENT` if all its handles were closed or garbage collected
   */
  static attach(id: number): Userfaultfd {
    const handle = native().uffdAttach(id)
    if (typeof handle !== 'number') return new Userfaultfd(handle)
    throw kernelError(handle, 'attach', `userfaultfd ${id}`, NO_HANDLE_HINT)
  }

  /**
   * Registers whole pages; a second call replaces the modes.
   *
   * @returns the ioctls that the kernel offers there. It promises more than it keeps (`MOVE` on
   *   shared memory fails), so this can rule out, not in
   * @throws KernelError `EINVAL`: unaligned, unmapped, or a kind of memory without that mode.
   *   `EBUSY`: another userfaultfd has it. `EPERM`: a shared mapping that may not be written
   */
  register(
    address: HostAddress | number,
    length: number,
    modes: RegisterModes,
  ): ReadonlySet<IoctlName> {
    checkOptions(modes, ['missing', 'writeProtect', 'minor'])
    const { missing = false, writeProtect = false, minor = false } = modes
    const answer = native().uffdRegister(
      this.#open(),
      address,
      length,
      missing,
      writeProtect,
      minor,
    )
    if (typeof answer === 'bigint') return ioctlsFromMask(answer)
    const names = Object.entries({ missing, writeProtect, minor })
    const set = names.flatMap(([name, on]) => (on ? [name] : [])).join(' | ')
    throw kernelError(
      answer,
      'ioctl',
      `UFFDIO_REGISTER, ${hex(address)}, ${length}, ${set || 'no mode'}`,
    )
  }

  /** Wakes the waiters; pages that are missing then read as zeros. */
  unregister(address: HostAddress | number, length: number): void {
    const result = native().uffdUnregister(this.#open(), address, length)
    check(result, 'ioctl', () => `UFFDIO_UNREGISTER, ${hex(address)}, ${length}`)
  }

  /**
   * Places `src` at `dst` and wakes the threads parked there. `src` may begin at any address, and
   * can be used again when this returns.
   *
   * @param dst - multiple of the region's page size
   * @param src - whole pages of the region's page size
   * @returns bytes placed; 0 if an event must be read first
   * @throws KernelError `EEXIST`: the page is there (or the pool of huge pages is empty).
   *   `ENOENT`: not registered any more. `ENOMEM`. `ESRCH`: the process is gone
   * @see ioctl_userfaultfd(2), UFFDIO_COPY. Linux 4.3; hugetlb and shmem since 4.11
   */
  copy(dst: HostAddress | number, src: Uint8Array, options?: CopyOptions): number {
    const { dontWake = false, writeProtect = false } = options ?? {}
    const result = native().uffdCopy(this.#open(), dst, src, dontWake, writeProtect)
    return check(result, 'ioctl', () => `UFFDIO_COPY, ${hex(dst)}, ${src.length}`)
  }

  /**
   * Places zeros. @returns bytes placed; 0 if an event must be read first
   *
   * @throws KernelError `EINVAL` on hugetlb: copy zeros there
   */
  zeropage(dst: HostAddress | number, length: number, options?: FillOptions): number {
    const result = native().uffdZeropage(this.#open(), dst, length, options?.dontWake ?? false)
    return check(result, 'ioctl', () => `UFFDIO_ZEROPAGE, ${hex(dst)}, ${length}`)
  }

  /**
   * Maps pages that are in the file already, for a minor fault.
   *
   * @returns bytes mapped; 0 if an event must be read first
   * @throws KernelError `EFAULT`: not in the file. `EEXIST`: mapped already. `EINVAL`: private memory
   */
  continue(start: HostAddress | number, length: number, options?: CopyOptions): number {
    const { dontWake = false, writeProtect = false } = options ?? {}
    const result = native().uffdContinue(this.#open(), start, length, dontWake, writeProtect)
    return check(result, 'ioctl', () => `UFFDIO_CONTINUE, ${hex(start)}, ${length}`)
  }

  /**
   * Moves pages within this process, without copying; private memory only. Linux 6.8.
   *
   * @returns bytes moved; 0 if an event must be read first
   * @throws KernelError `EBUSY`: a page is shared with a child or merged by KSM. `EINVAL`: not
   *   private, or `dst` is not registered. `ENOENT`: nothing at `src`
   */
  move(
    dst: HostAddress | number,
    src: HostAddress | number,
    length: number,
    options?: MoveOptions,
  ): number {
    const { dontWake = false, allowSourceHoles = false } = options ?? {}
    const result = native().uffdMove(this.#open(), dst, src, length, dontWake, allowSourceHoles)
    return check(result, 'ioctl', () => `UFFDIO_MOVE, ${hex(dst)}, ${hex(src)}, ${length}`)
  }

  /** Marks missing pages as lost: a touch is SIGBUS, a system call gets `EHWPOISON`. Linux 6.6. */
  poison(start: HostAddress | number, length: number, options?: FillOptions): number {
    const result = native().uffdPoison(this.#open(), start, length, options?.dontWake ?? false)
    return check(result, 'ioctl', () => `UFFDIO_POISON, ${hex(start)}, ${length}`)
  }

  /** Wakes who is parked in the range, which need not be registered. They fault again if still missing. */
  wake(start: HostAddress | number, length: number): void {
    const result = native().uffdWake(this.#open(), start, length)
    check(result, 'ioctl', () => `UFFDIO_WAKE, ${hex(start)}, ${length}`)
  }

  /**
   * Arms (`enable`) or disarms write-protection; disarming wakes, unless `dontWake`.
   *
   * @throws KernelError `ENOENT`: not registered for it. `EAGAIN`: an event must be read first
   */
  writeProtect(
    start: HostAddress | number,
    length: number,
    options: { enable: boolean; dontWake?: boolean },
  ): void {
    const { enable, dontWake = false } = options
    const result = native().uffdWriteProtect(this.#open(), start, length, enable, dontWake)
    check(result, 'ioctl', () => `UFFDIO_WRITEPROTECT, ${hex(start)}, ${length}, ${enable}`)
  }

  /**
   * One non-blocking read(2) into {@link Userfaultfd.events}. Faults come before any other event.
   *
   * @returns the number of events; 0 if there were none
   */
  read(): number {
    return check(native().uffdRead(this.#open(), this.events), 'read', () => `fd ${this.fd}`)
  }

  /**
   * Reads a batch whenever there is one, on this thread's event loop, and calls `listener` with
   * the number of events. There is no other thread in it: what resolves the fault is what was woken.
   *
   * A listener that throws ends the watch; its exception is an uncaught one. It ends the process
   * although workers are parked, as {@link exitProcess} does. An `uncaughtException` listener may
   * watch again instead.
   *
   * @returns stops it; may be called twice
   * @throws KernelError `EEXIST`: this thread watches it already
   */
  watch(listener: (count: number) => void, options: WatchOptions = {}): () => void {
    checkOptions(options, ['ref'])
    const onReady = (status: number) => {
      check(status, 'epoll_wait', () => `userfaultfd ${this.fd}`)
      const count = this.read()
      // A fault that was resolved meanwhile takes its message along.
      if (count > 0) listener(count)
    }
    const guarded = (status: number) => {
      try {
        onReady(status)
      } catch (error) {
        stop()
        exitAfterFailedListener(error)
        throw error
      }
    }
    const watch = native().watchStart(this.#open(), guarded, options.ref ?? true)
    if (typeof watch === 'number') throw kernelError(watch, 'epoll_ctl', `userfaultfd ${this.fd}`)
    const stop = () => {
      this.#watches.delete(watch)
      native().watchStop(watch)
    }
    this.#watches.add(watch)
    return stop
  }

  /**
   * Gives this handle up and stops its watches; may be called twice. See above for the last one.
   *
   * Release parked threads before the process ends, or end it by {@link exitProcess}:
   * `process.exit()` first joins every worker, and one that sleeps in a fault never ends.
   */
  close(): void {
    const handle = this.#handle
    if (handle === undefined) return
    this.#handle = undefined
    forgotten.unregister(this)
    for (const watch of this.#watches) native().watchStop(watch)
    this.#watches.clear()
    native().uffdClose(handle)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #open(): NativeUserfaultfd {
    if (this.#handle === undefined) throw closedError(`userfaultfd ${this.id}`)
    return this.#handle
  }

  static {
    userfaultfdHandle = (uffd) => uffd.#open()
  }
}
