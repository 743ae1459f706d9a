/**
 * One bit a target page, least significant bit first, padded to 8 bytes: the layout of the
 * recovery bitmap on the wire (protocol section 3.2), so that it can be sent as it is.
 */
import {
  clearBits,
  countBits,
  findNext,
  findRuns,
  PageRun,
  mergeBits,
  roundOut,
  setBits,
} from '../kernel/index.js'

const RUNS_A_CALL = 512

export class PageBitmap {
  readonly bytes: Uint8Array
  readonly pageCount: number

  /** @param bytes - the bytes of another bitmap, to share its bits */
  constructor(pageCount: number, bytes?: Uint8Array) {
    this.pageCount = pageCount
    this.bytes = bytes ?? new Uint8Array(new SharedArrayBuffer(PageBitmap.byteLength(pageCount)))
  }

  static byteLength(pageCount: number): number {
    return Math.ceil(pageCount / 64) * 8
  }

  test(page: number): boolean {
    return ((this.bytes[page >>> 3] ?? 0) & (1 << (page & 7))) !== 0
  }

  set(page: number): void {
    this.bytes[page >>> 3] = (this.bytes[page >>> 3] ?? 0) | (1 << (page & 7))
  }

  clear(page: number): void {
    this.bytes[page >>> 3] = (this.bytes[page >>> 3] ?? 0) & ~(1 << (page & 7))
  }

  setRange(from: number, to: number): void {
    setBits(this.bytes, from, to)
  }

  clearRange(from: number, to: number): void {
    clearBits(this.bytes, from, to)
  }

  setAll(): void {
    this.setRange(0, this.pageCount)
  }

  /** Set bits in `[from, to)`. */
  count(from = 0, to = this.pageCount): number {
    return countBits(this.bytes, from, to)
  }

  /** The first set page in `[from, to)`, or -1. */
  next(from = 0, to = this.pageCount): number {
    return findNext(this.bytes, from, to)
  }

  /** Whether all of `[from, to)` is set. */
  all(from: number, to: number): boolean {
    return to - from === 1 ? this.test(from) : this.count(from, to) === to - from
  }

  /**
   * Sets every page of each host page that has one set, because only whole host pages are sent and
   * discarded.
   */
  roundOut(hostPages: number): void {
    if (hostPages > 1) roundOut(this.bytes, this.pageCount, hostPages)
  }

  /** Clears every page of each host page that has one clear: the opposite of {@link roundOut}. */
  roundIn(hostPages: number): void {
    if (hostPages === 1) return
    for (const [start, end] of this.copy().runs()) {
      const first = Math.ceil(start / hostPages) * hostPages
      const last = Math.floor(end / hostPages) * hostPages
      this.clearRange(start, Math.min(first, end))
      if (last >= first) this.clearRange(last, end)
    }
  }

  /** Runs of set pages as `[start, end)`, ascending. */
  *runs(): Generator<readonly [start: number, end: number]> {
    const out = new Float64Array(RUNS_A_CALL * PageRun.stride)
    for (let from = 0; from < this.pageCount;) {
      const count = findRuns(this.bytes, from, this.pageCount, out)
      for (let index = 0; index < count; index += 1) {
        const at = index * PageRun.stride
        yield [out[at + PageRun.start] ?? 0, out[at + PageRun.end] ?? 0]
      }
      if (count < RUNS_A_CALL) return
      from = out[(count - 1) * PageRun.stride + PageRun.end] ?? this.pageCount
    }
  }

  copy(): PageBitmap {
    return new PageBitmap(this.pageCount, this.bytes.slice())
  }

  /** The pages that are not set. */
  complement(): PageBitmap {
    const others = new PageBitmap(this.pageCount)
    others.setAll()
    others.remove(this)
    return others
  }

  /** The first page that is set here and in `other`, or -1. */
  firstShared(other: PageBitmap): number {
    return this.#first(other, (own, others) => own & others)
  }

  /** The first page that is set here and not in `other`, or -1. */
  firstNotIn(other: PageBitmap): number {
    return this.#first(other, (own, others) => own & ~others)
  }

  /** The first page that is set neither here nor in `other`, or -1. */
  firstInNeither(other: PageBitmap): number {
    return this.#first(other, (own, others) => ~(own | others))
  }

  /** @param select - maps one byte of each bitmap to the wanted bits */
  #first(other: PageBitmap, select: (own: number, others: number) => number): number {
    const end = Math.ceil(this.pageCount / 8)
    for (let index = 0; index < end; index += 1) {
      const found = select(this.bytes[index] ?? 0, other.bytes[index] ?? 0) & 0xff
      if (found === 0) continue
      const page = index * 8 + 31 - Math.clz32(found & -found)
      return page < this.pageCount ? page : -1
    }
    return -1
  }

  /** Sets the pages that are set in `other`, which has as many pages. */
  add(other: PageBitmap): void {
    mergeBits(this.bytes, other.bytes, 'add')
  }

  /** Clears the pages that are not set in `other`, which has as many pages. */
  keep(other: PageBitmap): void {
    mergeBits(this.bytes, other.bytes, 'keep')
  }

  /** Clears the pages that are set in `other`, which has as many pages. */
  remove(other: PageBitmap): void {
    mergeBits(this.bytes, other.bytes, 'remove')
  }
}
