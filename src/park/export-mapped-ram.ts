/**
 * Writes a VM as QEMU's `mapped-ram` file (QEMU 9.0): every page has its place in the file, and a
 * bitmap for each block tells which pages have data. All other pages are holes. A QEMU loads it with
 * `mapped-ram` on, with or without `multifd` and `direct-io`.
 */
import { isZero } from '../kernel/index.js'
import {
  ConfigurationSubsectionName,
  encode,
  encodeConfiguration,
  encodeFileHeader,
  encodeFooter,
  encodeRamEndOfSection,
  encodeSectionStart,
  ElementType,
  RamFlag,
  Reader,
  type Writer,
} from '../stream/index.js'
import { readConfiguration } from '../stream/internal.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import type { PositionedSink } from './byte-sink.js'
import { CHECKSUM_CHUNK_BYTES } from './checksum.js'
import type { ExportedBlock, ExportInput } from './export-input.js'
import { encodeStreamEnd, ramHeader } from './export-stream.js'
import type { DataChunk } from './read-data.js'
import { PendingWrite } from './pending-write.js'

const CAPABILITY = 'mapped-ram'
const HEADER_VERSION = 1
/** u32 version, u64 page size, u64 offset of the bitmap, u64 offset of the pages. */
const HEADER_BYTES = 28
/** The pages of a block begin at a multiple of this, counted from the start of the file. */
const PAGES_ALIGNMENT_BYTES = 2 ** 20
/** Part of a bitmap that is kept in memory: 4 KiB stand for 128 MiB of RAM. */
const WINDOW_BYTES = 4096
const BITMAP_BYTES_A_CHUNK = CHECKSUM_CHUNK_BYTES / TARGET_PAGE_SIZE / 8

/** Writes the whole file. */
export async function writeMappedRam(input: ExportInput, file: PositionedSink): Promise<void> {
  const total = input.blocks.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)
  await file.append(
    encode((out) => {
      encodeFileHeader(out)
      encodeMappedRamConfiguration(out, input.configuration)
      encodeSectionStart(out, ramHeader(input))
      out.u64(total + RamFlag.memSize)
    }),
  )
  let position = file.lengthBytes
  for (const block of input.blocks) position = await writeBlock(block, file, position)
  const end = encode((out) => {
    encodeRamEndOfSection(out)
    encodeFooter(out, input.ramSectionId)
    encodeStreamEnd(out, input)
  })
  await file.writeAt(end, position)
}

/** The configuration element with the capability in its list. */
export function encodeMappedRamConfiguration(out: Writer, element: Uint8Array): void {
  // The element ends where the next one begins.
  const bytes = encode((copy) => copy.bytes(element).u8(ElementType.sectionStart))
  const configuration = readConfiguration(new Reader(bytes))
  if (configuration === undefined) throw new RangeError('the configuration is incomplete')
  const name = ConfigurationSubsectionName.capabilities
  const listed = configuration.subsections.flatMap((subsection) =>
    subsection.name === name ? subsection.capabilities : [],
  )
  encodeConfiguration(out, configuration.machineType, [
    ...configuration.subsections.filter((subsection) => subsection.name !== name),
    { name, capabilities: [...listed, CAPABILITY] },
  ])
}

/** @returns where the next block, or the end, follows */
async function writeBlock(
  block: ExportedBlock,
  file: PositionedSink,
  position: number,
): Promise<number> {
  const { name, lengthBytes } = block
  const bitmapBytes = Math.ceil(lengthBytes / TARGET_PAGE_SIZE / 64) * 8
  const entry = encode((out) => out.str8(name).u64(lengthBytes))
  const bitmapAt = position + entry.length + HEADER_BYTES
  const pagesAt =
    Math.ceil((bitmapAt + bitmapBytes) / PAGES_ALIGNMENT_BYTES) * PAGES_ALIGNMENT_BYTES
  const header = encode((out) => {
    out.bytes(entry).u32(HEADER_VERSION).u64(TARGET_PAGE_SIZE).u64(bitmapAt).u64(pagesAt)
  })
  await file.writeAt(header, position)
  const bitmap = new BitmapWriter(file, bitmapAt, bitmapBytes)
  const pending = new PendingWrite()
  try {
    for await (const chunk of block.chunks()) {
      const runs = dataRuns(chunk.bytes)
      await bitmap.set(chunk.offset, runs)
      await pending.start(() => writeRuns(file, pagesAt, chunk, runs))
    }
    await bitmap.flush()
    await pending.end()
  } finally {
    await pending.settle()
  }
  return pagesAt + lengthBytes
}

/** A run of pages with data in a chunk, `[from, to)`. */
type PageRun = readonly [from: number, to: number]

function dataRuns(bytes: Uint8Array): PageRun[] {
  const runs: PageRun[] = []
  const pages = bytes.length / TARGET_PAGE_SIZE
  let from = -1
  for (let page = 0; page < pages; page += 1) {
    const at = page * TARGET_PAGE_SIZE
    const hasData = !isZero(bytes.subarray(at, at + TARGET_PAGE_SIZE))
    if (hasData && from < 0) from = page
    if (hasData || from < 0) continue
    runs.push([from, page])
    from = -1
  }
  if (from >= 0) runs.push([from, pages])
  return runs
}

/** Writes all runs at once: one after the other would wait for the thread pool for each. */
async function writeRuns(
  file: PositionedSink,
  pagesAt: number,
  { offset, bytes }: DataChunk,
  runs: readonly PageRun[],
): Promise<void> {
  const writes = runs.map(([from, to]) => {
    const start = from * TARGET_PAGE_SIZE
    return file.writeAt(bytes.subarray(start, to * TARGET_PAGE_SIZE), pagesAt + offset + start)
  })
  const results = await Promise.allSettled(writes)
  for (const result of results) if (result.status === 'rejected') throw result.reason
}

/**
 * The bitmap of a block, written window by window. Bit `i` of byte `i / 8` is page `i`: words of 64
 * bits, little-endian, as a host of QEMU's x86 guests has them.
 */
class BitmapWriter {
  readonly #file: PositionedSink
  readonly #at: number
  readonly #lengthBytes: number
  readonly #window = new Uint8Array(WINDOW_BYTES)
  /** Offset of the window in the bitmap. */
  #from = 0

  constructor(file: PositionedSink, at: number, lengthBytes: number) {
    this.#file = file
    this.#at = at
    this.#lengthBytes = lengthBytes
  }

  /** @param offset - of a chunk in the block; ascending */
  async set(offset: number, runs: readonly PageRun[]): Promise<void> {
    const at = (offset / CHECKSUM_CHUNK_BYTES) * BITMAP_BYTES_A_CHUNK
    const from = at - (at % WINDOW_BYTES)
    if (from !== this.#from) {
      await this.flush()
      this.#window.fill(0)
      this.#from = from
    }
    for (const [start, end] of runs) {
      for (let page = start; page < end; page += 1) {
        const byte = at - from + (page >>> 3)
        this.#window[byte] = (this.#window[byte] ?? 0) | (1 << (page & 7))
      }
    }
  }

  async flush(): Promise<void> {
    const part = this.#window.subarray(0, this.#lengthBytes - this.#from)
    await this.#file.writeAt(part, this.#at + this.#from)
  }
}
