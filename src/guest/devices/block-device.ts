/**
 * A disk whose request buffers are in guest RAM. A stop leaves one request open, and loading
 * completes it with read(2) from the disk into guest RAM. In postcopy this faults inside the
 * kernel, on the page that holds the request's header. The disk content is the same on both hosts,
 * as on shared storage.
 *
 * Four pages are used in turn. Page: u32 request + 1, u32 sector, u32 status (0 open, 1 done),
 * zeros up to 512, then 7 sectors of data.
 *
 * State, version 1: u64 offset of the pages, u32 requests so far, u8 1 if the last one is open, u32
 * checksum of the disk.
 */
import { MemoryRegion } from '../../kernel/index.js'
import { type Reader, Writer } from '../../stream/index.js'
import { TARGET_PAGE_SIZE } from '../../units.js'
import { BLOCK_PAGES } from '../layout.js'
import { addon } from '../native.js'
import { refuseState, type Device, type Seal } from './device.js'
import { readFileIntoGuest } from './guest-file-io.js'

const SECTOR_BYTES = 512
const SECTORS = 1024
const REQUEST_SECTORS = TARGET_PAGE_SIZE / SECTOR_BYTES - 1
const HEADER_BYTES = 12
const STATUS_OFFSET = 8

export class BlockDevice implements Device {
  readonly idstr = 'block'
  readonly instanceId = 0
  readonly version = 1
  readonly #ram: MemoryRegion
  readonly #offset: number
  readonly #disk: MemoryRegion
  readonly #diskContent = diskContent()
  #requests = 0
  #open = false

  /** @param offset - of its pages in `ram` */
  constructor(ram: MemoryRegion, offset: number) {
    this.#ram = ram
    this.#offset = offset
    this.#disk = MemoryRegion.create({
      kind: 'memfd',
      lengthBytes: SECTORS * SECTOR_BYTES,
      name: 'postcopy-disk',
    })
    this.#disk.write(0, this.#diskContent)
  }

  /** Number of requests over the guest's lifetime. */
  get requests(): number {
    return this.#requests
  }

  /** Uses every page once; only for a new guest. */
  initialise(): void {
    for (let i = 0; i < BLOCK_PAGES; i += 1) {
      this.submit()
      this.complete()
    }
  }

  /** Writes the header of the next request into guest RAM. */
  submit(): void {
    const request = this.#requests
    this.#ram.write(this.#pageOffset(request), headerOf(request, 0))
    this.#requests = request + 1
    this.#open = true
  }

  /** Completes the open request, if there is one: the kernel reads the disk into guest RAM. */
  complete(): void {
    if (!this.#open) return
    const request = this.#requests - 1
    const at = this.#pageOffset(request)
    const position = sectorOf(request) * SECTOR_BYTES
    const data = at + SECTOR_BYTES
    readFileIntoGuest(this.#ram, this.#disk.fd, position, data, REQUEST_SECTORS * SECTOR_BYTES)
    this.#ram.write(at + STATUS_OFFSET, new Writer().u32(1).take())
    this.#open = false
  }

  started(): void {
    this.complete()
  }

  stopped(): void {
    if (!this.#open) this.submit()
  }

  save(): Uint8Array {
    const out = new Writer()
      .u64(this.#offset)
      .u32(this.#requests)
      .u8(this.#open ? 1 : 0)
    return out.u32(addon().checksum(this.#diskContent)).take()
  }

  load(state: Reader): void {
    const offset = state.u64()
    const requests = state.u32()
    const open = state.u8() === 1
    const disk = state.u32()
    if (offset !== this.#offset) {
      refuseState(
        this,
        `its requests are at ram+${offset}, but at ram+${this.#offset} in this machine: ` +
          'the machines differ',
      )
    }
    if (disk !== addon().checksum(this.#diskContent)) {
      refuseState(this, 'the disk of this machine has different content')
    }
    this.#requests = requests
    this.#open = open
    this.complete()
    const page = new Uint8Array(TARGET_PAGE_SIZE)
    for (const seal of this.seals()) {
      this.#ram.read(seal.page * TARGET_PAGE_SIZE, page)
      if (addon().checksum(page) !== seal.checksum) {
        const at = seal.page * TARGET_PAGE_SIZE
        refuseState(this, `the content of ram+${at} does not match its request: this page is wrong`)
      }
    }
  }

  seals(): Seal[] {
    const seals: Seal[] = []
    for (let back = Math.min(BLOCK_PAGES, this.#requests); back > 0; back -= 1) {
      const request = this.#requests - back
      const isOpen = this.#open && back === 1
      const page = new Uint8Array(TARGET_PAGE_SIZE)
      page.set(headerOf(request, isOpen ? 0 : 1))
      // The page of an open request has the data of the page's previous request, if any.
      const source = isOpen ? request - BLOCK_PAGES : request
      if (source >= 0) {
        const start = sectorOf(source) * SECTOR_BYTES
        const data = this.#diskContent.subarray(start, start + REQUEST_SECTORS * SECTOR_BYTES)
        page.set(data, SECTOR_BYTES)
      }
      const index = this.#pageOffset(request) / TARGET_PAGE_SIZE
      seals.push({ page: index, checksum: addon().checksum(page) })
    }
    return seals
  }

  close(): void {
    this.#disk.close()
  }

  #pageOffset(request: number): number {
    return this.#offset + (request % BLOCK_PAGES) * TARGET_PAGE_SIZE
  }
}

function sectorOf(request: number): number {
  return (request * REQUEST_SECTORS) % (SECTORS - REQUEST_SECTORS)
}

function headerOf(request: number, status: number): Uint8Array {
  const header = new Writer(HEADER_BYTES)
  return header
    .u32(request + 1)
    .u32(sectorOf(request))
    .u32(status)
    .take()
}

/** The same on every host. */
function diskContent(): Uint8Array {
  const words = new Uint32Array((SECTORS * SECTOR_BYTES) / Uint32Array.BYTES_PER_ELEMENT)
  let value = 1
  for (let i = 0; i < words.length; i += 1) {
    value = (value * 48271) % 2147483647 // MINSTD: exact in a double
    words[i] = value
  }
  return new Uint8Array(words.buffer)
}
