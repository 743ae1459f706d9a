/**
 * A queue in guest RAM, like that of a paravirtual device. Its state has only the position of the
 * ring, its progress and checksums. Loading reads the ring and its buffers from guest RAM. In
 * postcopy their pages are missing, and fault on the loading thread.
 *
 * The first page is the ring, 256 descriptors; the others are the buffers, used in turn.
 * Descriptor, 16 bytes: u64 offset in `ram`, u32 length, u32 entry + 1.
 *
 * State, version 1: u64 offset of the ring, u32 entries so far, u32 pages, u32 checksum of each.
 */
import type { MemoryRegion } from '../../kernel/index.js'
import { type Reader, Writer } from '../../stream/index.js'
import { TARGET_PAGE_SIZE, hex } from '../../units.js'
import { QUEUE_PAGES } from '../layout.js'
import { addon } from '../native.js'
import { refuseState, type Device, type Seal } from './device.js'

const DESCRIPTOR_BYTES = 16
const RING_ENTRIES = TARGET_PAGE_SIZE / DESCRIPTOR_BYTES
const BUFFERS = QUEUE_PAGES - 1

export class QueueDevice implements Device {
  readonly idstr = 'queue'
  readonly instanceId = 0
  readonly version = 1
  readonly #ram: MemoryRegion
  readonly #offset: number
  readonly #ring = new Uint8Array(TARGET_PAGE_SIZE)
  #entries = 0
  #checksums: number[] = []

  /** @param offset - of its pages in `ram` */
  constructor(ram: MemoryRegion, offset: number) {
    this.#ram = ram
    this.#offset = offset
  }

  /** Number of entries posted over the guest's lifetime. */
  get entries(): number {
    return this.#entries
  }

  /** Uses every buffer once; only for a new guest. */
  initialise(): void {
    for (let i = 0; i < BUFFERS; i += 1) this.post()
  }

  /** Writes the next entry into guest RAM: its buffer, then its descriptor. */
  post(): void {
    const entry = this.#entries
    const buffer = bufferOf(entry)
    const content = contentOf(entry)
    const offset = this.#pageOffset(buffer)
    this.#ram.write(offset, content)
    const at = (entry % RING_ENTRIES) * DESCRIPTOR_BYTES
    const descriptor = new Writer()
      .u64(offset)
      .u32(content.length)
      .u32(entry + 1)
      .take()
    this.#ring.set(descriptor, at)
    this.#ram.write(this.#offset + at, descriptor)
    this.#entries = entry + 1
    this.#checksums[buffer] = addon().checksum(content)
    this.#checksums[0] = addon().checksum(this.#ring)
  }

  /**
   * Requests in flight complete when the machine stops, so their pages are dirty at the very end.
   */
  stopped(): void {
    this.post()
  }

  save(): Uint8Array {
    const out = new Writer().u64(this.#offset).u32(this.#entries).u32(QUEUE_PAGES)
    for (let page = 0; page < QUEUE_PAGES; page += 1) out.u32(this.#checksums[page] ?? 0)
    return out.take()
  }

  load(state: Reader): void {
    const offset = state.u64()
    const entries = state.u32()
    const pages = state.u32()
    if (offset !== this.#offset || pages !== QUEUE_PAGES) {
      refuseState(
        this,
        `its ring is ${pages} pages at ram+${offset}, but in this machine ` +
          `${QUEUE_PAGES} at ram+${this.#offset}: the machines differ`,
      )
    }
    const checksums = Array.from({ length: pages }, () => state.u32())
    const page = new Uint8Array(TARGET_PAGE_SIZE)
    for (const [index, checksum] of checksums.entries()) {
      this.#ram.read(this.#pageOffset(index), page)
      const got = addon().checksum(page)
      if (got !== checksum) {
        refuseState(
          this,
          `ram+${this.#pageOffset(index)} has checksum ${hex(got)}, ` +
            `${hex(checksum)} is expected: this page of guest RAM is wrong`,
        )
      }
      if (index === 0) this.#ring.set(page)
    }
    this.#entries = entries
    this.#checksums = checksums
  }

  seals(): Seal[] {
    const first = this.#offset / TARGET_PAGE_SIZE
    return this.#checksums.map((checksum, index) => ({ page: first + index, checksum }))
  }

  #pageOffset(page: number): number {
    return this.#offset + page * TARGET_PAGE_SIZE
  }
}

function bufferOf(entry: number): number {
  return 1 + (entry % BUFFERS)
}

/** Content that differs from entry to entry. */
function contentOf(entry: number): Uint8Array {
  const content = new Uint8Array(TARGET_PAGE_SIZE)
  for (let i = 0; i < content.length; i += 1) content[i] = (entry * 31 + i * 7) % 251
  return content
}
