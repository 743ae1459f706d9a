/** Types and functions that every folder may use: branded numbers, sizes, `assertNever`. */
import { PostcopyError } from './errors.js'

declare const brand: unique symbol

/** An address in this process, in bytes. User space ends below 2^48, so a number is exact. */
export type HostAddress = number & { readonly [brand]: 'HostAddress' }

/** The page size of the stream and of every bitmap, in bytes (x86 guests). */
export const TARGET_PAGE_SIZE = 4096

/** Parses `64M`, `1G`, `2T`, `4096` into bytes. Units are powers of 1024, as in QEMU. */
export function parseByteSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?$/i.exec(text.trim())
  const exponent = ['', 'K', 'M', 'G', 'T'].indexOf((match?.[2] ?? '').toUpperCase())
  const bytes = Number(match?.[1]) * 1024 ** exponent
  if (match === null || !Number.isSafeInteger(bytes)) {
    throw new PostcopyError(
      'ERR_INVALID_SIZE',
      `"${text}" is not a size: give bytes, or a number with K, M, G or T, such as 256M`,
    )
  }
  return bytes
}

/** Prints bytes with a unit, three digits: `1.50 GiB`. */
export function formatByteSize(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2
  return `${value.toFixed(digits)} ${units[unit] ?? ''}`
}

/** Makes a missing case of a union a compile error. */
export function assertNever(value: never): never {
  throw new PostcopyError('ERR_INTERNAL', `unexpected value ${JSON.stringify(value)}`)
}

/** A number in hexadecimal, for messages: `0x7f12…`. */
export function hex(value: number): string {
  return `0x${value.toString(16)}`
}
