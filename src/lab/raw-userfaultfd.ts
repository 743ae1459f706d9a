/**
 * A userfaultfd whose calls return the errno and the output field as the kernel left them: no call
 * throws or retries. For other work, use `Userfaultfd` of `postcopy/kernel`.
 */
import { closeSync, openSync, readlinkSync } from 'node:fs'
import { featuresFromMask, featuresToMask } from '../kernel/internal.js'
import type { FeatureName } from '../kernel/index.js'
import { addressOf, must, outcomeName, syscall } from '../host/index.js'

/** The result of one ioctl. */
export interface IoctlAnswer {
  /** `ok` or the errno's name. */
  errno: string
  /** The output field as the kernel left it; a preset value shows whether the kernel wrote it. */
  field: number
}

/** `linux/userfaultfd.h`. */
export const Ioctl = {
  API: 0xc018aa3f,
  REGISTER: 0xc020aa00,
  UNREGISTER: 0x8010aa01,
  WAKE: 0x8010aa02,
  COPY: 0xc028aa03,
  ZEROPAGE: 0xc020aa04,
  MOVE: 0xc028aa05,
  WRITEPROTECT: 0xc018aa06,
  CONTINUE: 0xc020aa07,
  POISON: 0xc020aa08,
  /** On /dev/userfaultfd; the flags are the argument itself. */
  NEW: 0xaa00,
} as const

export const Mode = { MISSING: 1, WP: 2, MINOR: 4 } as const
/** Mode bits of the filling ioctls. */
export const Fill = { DONTWAKE: 1, COPY_WP: 2, CONTINUE_WP: 2, ALLOW_SRC_HOLES: 2 } as const
export const UFFD_USER_MODE_ONLY = 1
const O_CLOEXEC = 0o2000000
const O_NONBLOCK = 0o4000

export type Message =
  | { event: 'PAGEFAULT'; flags: number; address: number; threadId: number }
  | { event: 'FORK'; fd: number }
  | { event: 'REMAP'; from: number; to: number; length: number }
  | { event: 'REMOVE' | 'UNMAP'; start: number; end: number }

export interface RawOpenOptions {
  /** Requested in the handshake. */
  features?: readonly FeatureName[]
  /** Default false: the first open method that works (device, system call, user-mode only). */
  userModeOnly?: boolean
  /** Default true. */
  nonblock?: boolean
}

export class RawUserfaultfd {
  readonly fd: number

  constructor(fd: number) {
    this.fd = fd
  }

  /** Opens one and does the handshake. Throws if no method works or the kernel lacks a feature. */
  static open(options: RawOpenOptions = {}): RawUserfaultfd {
    const { features = [], userModeOnly = false, nonblock = true } = options
    const flags = O_CLOEXEC + (nonblock ? O_NONBLOCK : 0)
    const attempts = userModeOnly
      ? [openSyscall(flags + UFFD_USER_MODE_ONLY)]
      : [openDevice(flags), openSyscall(flags), openSyscall(flags + UFFD_USER_MODE_ONLY)]
    const fd = attempts
      .map((attempt) => ({ attempt }))
      .reduce<number>((found, { attempt }) => (found >= 0 ? found : attempt()), -1)
    const uffd = new RawUserfaultfd(must(fd, 'userfaultfd'))
    const { errno } = uffd.api(featuresToMask(features))
    must(errno === 'ok' ? 0 : -22, `UFFDIO_API ${features.join(' | ')}: ${errno}`)
    return uffd
  }

  /** UFFDIO_API, with the three fields as they are after the call. */
  api(
    features = 0n,
    api = 0xaan,
  ): { errno: string; api: bigint; features: bigint; ioctls: bigint } {
    const arg = BigUint64Array.of(api, features, 0x5a5an)
    const errno = outcomeName(syscall('ioctl', this.fd, Ioctl.API, arg))
    return { errno, api: arg[0] ?? 0n, features: arg[1] ?? 0n, ioctls: arg[2] ?? 0n }
  }

  /** The mask of ioctls is 0 if the kernel refused. */
  register(start: number, length: number, mode: number): { errno: string; ioctls: number } {
    const arg = words(start, length, mode, 0)
    const errno = outcomeName(syscall('ioctl', this.fd, Ioctl.REGISTER, arg))
    return { errno, ioctls: errno === 'ok' ? Number(arg[3]) : 0 }
  }

  unregister(start: number, length: number): string {
    return outcomeName(syscall('ioctl', this.fd, Ioctl.UNREGISTER, words(start, length)))
  }

  wake(start: number, length: number): string {
    return outcomeName(syscall('ioctl', this.fd, Ioctl.WAKE, words(start, length)))
  }

  writeProtect(start: number, length: number, mode: number): string {
    return outcomeName(syscall('ioctl', this.fd, Ioctl.WRITEPROTECT, words(start, length, mode)))
  }

  /** @param src - bytes, or an address */
  copy(dst: number, src: Uint8Array | number, length: number, mode = 0, preset = 0): IoctlAnswer {
    const from = typeof src === 'number' ? src : addressOf(src)
    return this.#fill(Ioctl.COPY, words(dst, from, length, mode, preset))
  }

  move(dst: number, src: number, length: number, mode = 0, preset = 0): IoctlAnswer {
    return this.#fill(Ioctl.MOVE, words(dst, src, length, mode, preset))
  }

  zeropage(start: number, length: number, mode = 0, preset = 0): IoctlAnswer {
    return this.#fill(Ioctl.ZEROPAGE, words(start, length, mode, preset))
  }

  continue(start: number, length: number, mode = 0, preset = 0): IoctlAnswer {
    return this.#fill(Ioctl.CONTINUE, words(start, length, mode, preset))
  }

  poison(start: number, length: number, mode = 0, preset = 0): IoctlAnswer {
    return this.#fill(Ioctl.POISON, words(start, length, mode, preset))
  }

  /**
   * One read(2) of up to this many messages; `EAGAIN` gives an empty list.
   * Needs a nonblocking descriptor.
   */
  read(most = 64): Message[] {
    const buffer = new Uint8Array(most * 32)
    const result = syscall('read', this.fd, buffer, buffer.length)
    if (result === -11) return []
    must(result, 'read userfaultfd')
    return Array.from({ length: result / 32 }, (_, index) =>
      decodeMessage(new DataView(buffer.buffer, index * 32, 32)),
    )
  }

  /** The revents of poll(2), without waiting. */
  poll(): number {
    const entry = new Int32Array([this.fd, 0x0001 | 0x0008])
    const pollfd = new Uint8Array(entry.buffer)
    new DataView(pollfd.buffer).setUint16(4, 1, true)
    new DataView(pollfd.buffer).setUint16(6, 0, true)
    must(syscall('ppoll', pollfd, 1, new BigInt64Array(2), 0, 8), 'ppoll')
    return new DataView(pollfd.buffer).getUint16(6, true)
  }

  close(): void {
    syscall('close', this.fd)
  }

  #fill(request: number, arg: BigInt64Array): IoctlAnswer {
    const errno = outcomeName(syscall('ioctl', this.fd, request, arg))
    return { errno, field: Number(arg[arg.length - 1]) }
  }
}

/** Names of the bits in a mask that UFFDIO_API returned; unknown bits are left out. */
export function featureNamesOf(mask: bigint): FeatureName[] {
  return [...featuresFromMask(mask)]
}

/** A function that calls userfaultfd(2) with any flags. */
export function openSyscall(flags: number): () => number {
  return () => syscall('userfaultfd', flags)
}

/** A function that calls USERFAULTFD_IOC_NEW on a device node. */
export function openDevice(flags: number, path = '/dev/userfaultfd'): () => number {
  return () => {
    try {
      const device = openSync(path, 'r+')
      try {
        return syscall('ioctl', device, Ioctl.NEW, flags)
      } finally {
        closeSync(device)
      }
    } catch (error) {
      return error instanceof Error && 'errno' in error ? Number(error.errno) : -1
    }
  }
}

/** The target of the descriptor's link in /proc. */
export function descriptorTarget(fd: number): string {
  return readlinkSync(`/proc/self/fd/${fd}`)
}

function words(...values: number[]): BigInt64Array {
  return BigInt64Array.from(values.map(BigInt))
}

function decodeMessage(view: DataView): Message {
  const event = view.getUint8(0)
  const a = Number(view.getBigUint64(8, true))
  const b = Number(view.getBigUint64(16, true))
  switch (event) {
    case 0x12:
      return { event: 'PAGEFAULT', flags: a, address: b, threadId: view.getUint32(24, true) }
    case 0x13:
      return { event: 'FORK', fd: view.getUint32(8, true) }
    case 0x14:
      return { event: 'REMAP', from: a, to: b, length: Number(view.getBigUint64(24, true)) }
    default:
      return { event: event === 0x15 ? 'REMOVE' : 'UNMAP', start: a, end: b }
  }
}
