/** Raw system calls by name and raw memory by address, for experiments. */
import { constants } from 'node:os'
import { PostcopyError } from '../errors.js'
import { labNative } from './native.js'
import type { RawArgument } from './native.js'

let numbers: Record<string, number> | undefined

/** The number of a system call. */
export function syscallNumber(name: string): number {
  const number = (numbers ??= labNative().syscallNumbers())[name]
  if (number === undefined) {
    throw new PostcopyError('ERR_LAB_SYSCALL', `unknown system call "${name}"`)
  }
  return number
}

/** Makes a system call on this thread; its result, or `-errno`. */
export function syscall(name: string, ...args: RawArgument[]): number {
  return labNative().syscall(syscallNumber(name), ...args)
}

// If two names share a number, the kernel's name comes first in the table (EAGAIN before
// EWOULDBLOCK); the reversed order lets it win.
const errnoNames = new Map(
  Object.entries(constants.errno)
    .reverse()
    .map(([name, value]) => [value, name]),
)
// Not in Node's table.
errnoNames.set(133, 'EHWPOISON')

/** `ok` for a result of 0 or more, else the name of the errno. */
export function outcomeName(result: number): string {
  return result >= 0 ? 'ok' : (errnoNames.get(-result) ?? `errno ${-result}`)
}

/** Throws for `-errno`: for calls that prepare an experiment. */
export function must(result: number, what: string): number {
  if (result >= 0) return result
  throw new PostcopyError(outcomeName(result), `${what}: ${outcomeName(result)}`)
}

/** The address of a typed array; keep the array referenced. */
export function addressOf(bytes: NodeJS.TypedArray): number {
  return labNative().addressOf(bytes)
}

/** Copies memory out, from user mode. A missing page blocks this thread. */
export function peek(address: number, length = 1): Uint8Array {
  const bytes = new Uint8Array(length)
  labNative().peek(address, bytes)
  return bytes
}

/** Copies bytes in, from user mode. A missing or write-protected page blocks this thread. */
export function poke(address: number, bytes: Uint8Array): void {
  labNative().poke(address, bytes)
}

/** A path or name as a NUL-terminated string. */
export function cString(text: string): Uint8Array {
  return Buffer.from(`${text}\0`)
}

export const Prot = { NONE: 0, READ: 1, WRITE: 2, READ_WRITE: 3 } as const
export const MapFlag = {
  SHARED: 1,
  PRIVATE: 2,
  DROPPABLE: 8,
  FIXED: 0x10,
  ANONYMOUS: 0x20,
  NORESERVE: 0x4000,
  POPULATE: 0x8000,
  HUGETLB: 0x40000,
  /** log2 of the page size, 21, from bit 26. */
  HUGE_2MB: 1409286144,
} as const
/** madvise(2). */
export const Madv = {
  WILLNEED: 3,
  DONTNEED: 4,
  FREE: 8,
  REMOVE: 9,
  DONTFORK: 10,
  MERGEABLE: 12,
  UNMERGEABLE: 13,
  HUGEPAGE: 14,
  NOHUGEPAGE: 15,
  COLD: 20,
  PAGEOUT: 21,
  POPULATE_READ: 22,
  POPULATE_WRITE: 23,
  DONTNEED_LOCKED: 24,
  COLLAPSE: 25,
  GUARD_INSTALL: 102,
  GUARD_REMOVE: 103,
} as const
