/** Encodes and decodes page records of the stream's `ram` section with simple, slow code. */

export const PAGE = 0x08
export const ZERO = 0x02
export const CONTINUE = 0x20

const PAGE_BYTES = 4096

/** u64 BE word and what follows it. */
export function record(word: number | bigint, ...parts: readonly Uint8Array[]): Uint8Array {
  const header = new Uint8Array(8)
  new DataView(header.buffer).setBigUint64(0, BigInt(word))
  return concat([header, ...parts])
}

export function pageRecord(page: number, content: Uint8Array): Uint8Array {
  return record(page * PAGE_BYTES + PAGE + CONTINUE, content)
}

export function zeroRecord(page: number): Uint8Array {
  return record(page * PAGE_BYTES + ZERO + CONTINUE, Uint8Array.of(0))
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts))
}

export interface Decoded {
  page: number
  /** `undefined`: a record with CONTINUE. */
  name: string | undefined
  /** `undefined`: a zero page. */
  content: Uint8Array | undefined
}

/** Decodes packed bytes; throws for anything unexpected. */
export function decodeRecords(bytes: Uint8Array): Decoded[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const records: Decoded[] = []
  let at = 0
  while (at < bytes.length) {
    const word = Number(view.getBigUint64(at))
    at += 8
    const flags = word % PAGE_BYTES
    const page = (word - flags) / PAGE_BYTES
    let name: string | undefined
    if (flags < CONTINUE) {
      const length = view.getUint8(at)
      name = Buffer.from(bytes.subarray(at + 1, at + 1 + length)).toString()
      at += 1 + length
    }
    const kind = flags % CONTINUE
    if (kind === PAGE) {
      records.push({ page, name, content: bytes.slice(at, at + PAGE_BYTES) })
      at += PAGE_BYTES
    } else if (kind === ZERO && view.getUint8(at) === 0) {
      records.push({ page, name, content: undefined })
      at += 1
    } else {
      throw new Error(`flags 0x${flags.toString(16)} at ${at}`)
    }
  }
  if (at !== bytes.length) throw new Error('cut record')
  return records
}

/** A bitmap of `pages` bits, of which these are set. */
export function pageSet(pages: number, ...set: readonly number[]): Uint8Array {
  const bitmap = new Uint8Array(Math.ceil(pages / 8))
  for (const page of set) {
    const index = Math.floor(page / 8)
    bitmap[index] = (bitmap[index] ?? 0) + 2 ** (page % 8)
  }
  return bitmap
}

/** The set bits of a bitmap. */
export function pagesIn(bitmap: Uint8Array): number[] {
  const pages: number[] = []
  bitmap.forEach((byte, index) => {
    for (let bit = 0; bit < 8; bit += 1) {
      if (Math.floor(byte / 2 ** bit) % 2 === 1) pages.push(index * 8 + bit)
    }
  })
  return pages
}

/**
 * Records that the fast loops must leave to the decoder, each with the reason, for
 * a block of `pages` pages.
 */
export function foreignRecords(pages: number): [string, Uint8Array][] {
  const content = new Uint8Array(PAGE_BYTES).fill(1)
  const end = pages * PAGE_BYTES
  return [
    ['the end mark', record(0x10)],
    ['a named page', record(PAGE, Uint8Array.of(1, 97), content)],
    ['a named zero page', record(ZERO, Uint8Array.of(1, 97, 0))],
    ['a block list', record(end + 0x04)],
    ['an XBZRLE page', record(0x40 + CONTINUE, content)],
    ['a page with an unknown flag', record(PAGE + CONTINUE + 0x400, content)],
    ['page and zero at once', record(PAGE + ZERO + CONTINUE, content)],
    ['neither page nor zero', record(CONTINUE, content)],
    ['a zero page with another fill', record(ZERO + CONTINUE, Uint8Array.of(1))],
    ['a page just after the block', record(end + PAGE + CONTINUE, content)],
    ['a zero page just after the block', record(end + ZERO + CONTINUE, Uint8Array.of(0))],
    ['a page at 2^63', record(2n ** 63n + 0x28n, content)],
    ['the highest possible page', record(2n ** 64n - 4096n + 0x28n, content)],
    ['a zero page at the top', record(2n ** 64n - 4096n + 0x22n, Uint8Array.of(0))],
  ]
}
