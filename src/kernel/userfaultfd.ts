import type { HostAddress } from '../units.js'
import { EVENT_STRIDE } from './events.js'
import { exitAfterFailedListener } from './exit.js'
import { NO_HANDLE_HINT, check, checkOptions, closedError, kernelError } from './check.js'
import { featuresFromMask, ioctlsFromMask } from './features.js'
import type { FeatureName, IoctlName } from './features.js'
import { native } from './load.js'
import {
  ContinueMode,
  CopyMode,
  FillMode,
  MoveMode,
  RegisterMode,
  WriteProtectMode,
  openMethods,
} from './native.js'
import type { NativeUserfaultfd, NativeWatch, OpenMethod } from './native.js'
import { openUserfaultfd, userfaultfdOptionNames } from './open-userfaultfd.js'
import type { UserfaultfdOptions } from './open-userfaultfd.js'
import { hex } from '../units.js'

const MOST_EVENTS = 128

export interface RegisterModes {
  missing?: boolean
  writeProtect?: boolean
  minor?: boolean
}

export interface FillOptions {
  /** Leave the threads blocked; see {@link Userfaultfd.wake}. Default false. */
  dontWake?: boolean
}

export interface CopyOptions extends FillOptions {
  /** Place the page write-protected. Default false. */
  writeProtect?: boolean
}

export interface MoveOptions extends FillOptions {
  /** Count pages that are missing at `src` as moved. Default false: `ENOENT`. */
  allowSourceHoles?: boolean
}

export interface WatchOptions {
  /** Whether the watch keeps the event loop alive. Default true. */
  ref?: boolean
}

/** Warns of a missing `close()`; the addon decides whether the descriptor stays open. */
const forgotten = new FinalizationRegistry<number>((id) => {
  process.emitWarning(
    `userfaultfd ${id} was garbage collected without close(); if ranges are registered for missing or minor faults it stays open`,
    { code: 'POSTCOPY_NOT_CLOSED' },
  )
})

const COPY_BITS = { ...FillMode, ...CopyMode }
const CONTINUE_BITS = { ...FillMode, ...ContinueMode }
const MOVE_BITS = { ...FillMode, ...MoveMode }

/**
 * The mode of an ioctl.
 *
 * @param bits - the bit of each option
 * @throws TypeError for an option that is not a boolean
 */
function modeOf<Name extends string>(
  options: { readonly [Option in Name]?: boolean } | undefined,
  bits: Readonly<Record<Name, number>>,
): number {
  if (options === undefined) return 0
  let mode = 0
  for (const name in bits) {
    const value: unknown = options[name]
    if (value === true) mode |= bits[name]
    else if (value !== undefined && value !== false) {
      throw new TypeError(`${name} must be a boolean`)
    }
  }
  return mode
}

/** For the other files of this folder: the handle of an open userfaultfd. */
export let userfaultfdHandle: (uffd: Userfaultfd) => NativeUserfaultfd

/**
 * A userfaultfd(2): one method per ioctl, with the kernel's verb and without policy.
 *
 * A handle belongs to the thread that made it; the descriptor stays open until the last handle of
 * the process is closed. Closing the descriptor wakes all blocked threads, and **the missing pages
 * then silently read as zeros**. Therefore a userfaultfd may stay open although its worker ended or
 * its handle was garbage collected. It does so if a range was registered for missing or minor
 * faults, and can be attached by its {@link Userfaultfd.id}. One that only write-protects is
 * closed, and blocked writers continue.
 *
 * The filling ioctls return the bytes done, which may be fewer than requested. Continue after them:
 * the next call fails with the error of the page that stopped the first. 0 means that an event is
 * pending: read it first. `EEXIST` means that the page is present; its waiters may still sleep, see
 * {@link Userfaultfd.wake}.
 */
export class Userfaultfd {
  readonly id: number
  readonly fd: number
  /** Features that the handshake enabled. */
  readonly features: ReadonlySet<FeatureName>
  /** Features that this kernel has. */
  readonly available: ReadonlySet<FeatureName>
  /** Faults inside the kernel are not handled: the system call fails with `EFAULT`. */
  readonly userModeOnly: boolean
  readonly method: OpenMethod
  /**
   * The events of the last {@link Userfaultfd.read}, {@link EVENT_STRIDE} numbers each; see
   * {@link FaultEvent}. Always the same array.
   */
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
    this.method = openMethods[info.method] ?? 'syscall'
    forgotten.register(this, this.id, this)
  }

  /**
   * Opens a userfaultfd by `/dev/userfaultfd`, else by the system call, else by the system call for
   * user-mode faults only. It is `O_CLOEXEC | O_NONBLOCK`.
   *
   * @throws KernelError `EPERM`/`EACCES`: every open method was refused; the hint names remedies.
   *   `EINVAL`: the kernel lacks a feature. `EPERM` of `UFFDIO_API`: `EVENT_FORK` without
   *   CAP_SYS_PTRACE
   */
  static open(options: UserfaultfdOptions = {}): Userfaultfd {
    checkOptions(options, userfaultfdOptionNames)
    return new Userfaultfd(openUserfaultfd(options))
  }

  /**
   * Makes another handle on a userfaultfd of this process.
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
   * @returns the ioctls that the kernel offers for the range. An ioctl in the set may still fail
   *   (`MOVE` on shared memory does); one that is not in the set always fails
   * @throws KernelError `EINVAL`: unaligned, unmapped, or a kind of memory without that mode.
   *   `EBUSY`: registered with another userfaultfd. `EPERM`: a shared mapping without write access
   */
  register(
    address: HostAddress | number,
    length: number,
    modes: RegisterModes,
  ): ReadonlySet<IoctlName> {
    checkOptions(modes, ['missing', 'writeProtect', 'minor'])
    const mode = modeOf(modes, RegisterMode)
    const answer = native().uffdRegister(this.#open(), address, length, mode)
    if (typeof answer === 'bigint') return ioctlsFromMask(answer)
    const set = Object.entries(modes)
      .flatMap(([name, on]) => (on ? [name] : []))
      .join(' | ')
    throw kernelError(
      answer,
      'ioctl',
      `UFFDIO_REGISTER, ${hex(address)}, ${length}, ${set || 'no mode'}`,
    )
  }

  /** Unregisters the range and wakes its waiters; missing pages then read as zeros. */
  unregister(address: HostAddress | number, length: number): void {
    const result = native().uffdUnregister(this.#open(), address, length)
    check(result, 'ioctl', () => `UFFDIO_UNREGISTER, ${hex(address)}, ${length}`)
  }

  /**
   * Places `src` at `dst` and wakes the threads blocked there. `src` may begin at any address, and
   * can be used again when this returns.
   *
   * @param dst - multiple of the region's page size
   * @param src - whole pages of the region's page size
   * @returns bytes placed; 0 if an event must be read first
   * @throws KernelError `EEXIST`: the page is present (or the pool of huge pages is empty).
   *   `ENOENT`: not registered any more. `ENOMEM`. `ESRCH`: the process has exited
   * @see ioctl_userfaultfd(2), UFFDIO_COPY. Linux 4.3; hugetlb and shmem since 4.11
   */
  copy(dst: HostAddress | number, src: Uint8Array, options?: CopyOptions): number {
    const result = native().uffdCopy(this.#open(), dst, src, modeOf(options, COPY_BITS))
    return check(result, 'ioctl', () => `UFFDIO_COPY, ${hex(dst)}, ${src.length}`)
  }

  /**
   * Places zeros.
   *
   * @returns bytes placed; 0 if an event must be read first
   * @throws KernelError `EINVAL` on hugetlb: copy zeros there
   */
  zeropage(dst: HostAddress | number, length: number, options?: FillOptions): number {
    const result = native().uffdZeropage(this.#open(), dst, length, modeOf(options, FillMode))
    return check(result, 'ioctl', () => `UFFDIO_ZEROPAGE, ${hex(dst)}, ${length}`)
  }

  /**
   * Maps pages that are already in the file, to resolve a minor fault.
   *
   * @returns bytes mapped; 0 if an event must be read first
   * @throws KernelError `EFAULT`: not in the file. `EEXIST`: mapped already. `EINVAL`: private
   *   memory
   */
  continue(start: HostAddress | number, length: number, options?: CopyOptions): number {
    const mode = modeOf(options, CONTINUE_BITS)
    const result = native().uffdContinue(this.#open(), start, length, mode)
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
    const mode = modeOf(options, MOVE_BITS)
    const result = native().uffdMove(this.#open(), dst, src, length, mode)
    return check(result, 'ioctl', () => `UFFDIO_MOVE, ${hex(dst)}, ${hex(src)}, ${length}`)
  }

  /**
   * Marks missing pages as lost: an access raises SIGBUS, a system call fails with `EHWPOISON`.
   * Linux 6.6.
   */
  poison(start: HostAddress | number, length: number, options?: FillOptions): number {
    const result = native().uffdPoison(this.#open(), start, length, modeOf(options, FillMode))
    return check(result, 'ioctl', () => `UFFDIO_POISON, ${hex(start)}, ${length}`)
  }

  /**
   * Wakes the threads blocked in the range, which need not be registered. They fault again if the
   * page is still missing.
   */
  wake(start: HostAddress | number, length: number): void {
    const result = native().uffdWake(this.#open(), start, length)
    check(result, 'ioctl', () => `UFFDIO_WAKE, ${hex(start)}, ${length}`)
  }

  /**
   * Arms (`enable`) or disarms write-protection; disarming wakes blocked writers unless `dontWake`.
   *
   * @throws KernelError `ENOENT`: not registered for it. `EAGAIN`: an event must be read first
   */
  writeProtect(
    start: HostAddress | number,
    length: number,
    options: { enable: boolean; dontWake?: boolean },
  ): void {
    const { enable } = options
    if (typeof enable !== 'boolean') throw new TypeError('enable must be a boolean')
    const mode = modeOf(options, WriteProtectMode)
    const result = native().uffdWriteProtect(this.#open(), start, length, mode)
    check(result, 'ioctl', () => `UFFDIO_WRITEPROTECT, ${hex(start)}, ${length}, ${enable}`)
  }

  /**
   * One non-blocking read(2) into {@link Userfaultfd.events}. Faults precede all other events.
   *
   * @returns the number of events; 0 if there were none
   */
  read(): number {
    return check(native().uffdRead(this.#open(), this.events), 'read', () => `fd ${this.fd}`)
  }

  /**
   * Reads events whenever there are any, on this thread's event loop, and calls `listener` with
   * their number. No other thread takes part: the thread that was woken also resolves the fault.
   *
   * If a listener throws, the watch ends and the exception is an uncaught one. It ends the process
   * as {@link exitProcess} does, even if workers are blocked. An `uncaughtException` listener may
   * start a new watch instead.
   *
   * @returns a function that stops the watch; may be called twice
   * @throws KernelError `EEXIST`: this thread watches it already
   */
  watch(listener: (count: number) => void, options: WatchOptions = {}): () => void {
    checkOptions(options, ['ref'])
    const onReady = (status: number) => {
      check(status, 'epoll_wait', () => `userfaultfd ${this.fd}`)
      const count = this.read()
      // There may be no event: the kernel drops the message of a fault that was resolved meanwhile.
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
   * Closes this handle and stops its watches; may be called twice. Closing the last handle closes
   * the descriptor, see {@link Userfaultfd}.
   *
   * Release blocked threads before the process ends, or end it with {@link exitProcess}:
   * `process.exit()` first joins every worker, and a worker that sleeps in a fault never ends.
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
