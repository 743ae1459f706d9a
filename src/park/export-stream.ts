/**
 * Writes a VM as the stream of a precopy to a file: every page once, ascending, zero pages as zero
 * records. Every QEMU with the same machine loads it.
 */
import { isZero } from '../kernel/index.js'
import {
  encode,
  encodeEndOfStream,
  encodeFileHeader,
  encodeFooter,
  encodeRamBlockList,
  encodeRamEndOfSection,
  encodeSectionEnd,
  encodeSectionPart,
  encodeSectionStart,
  ElementType,
  RAM_PAGE_RECORD_BYTES,
  RAM_RECORD_HEAD_BYTES,
  RAM_SECTION,
  RAM_SECTION_VERSION,
  RAM_ZERO_RECORD_BYTES,
  RamFlag,
  type SectionHeader,
  type Writer,
} from '../stream/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import type { ByteSink } from './byte-sink.js'
import type { ExportedBlock, ExportInput } from './export-input.js'
import { PendingWrite } from './pending-write.js'

/** Some more than the records of one chunk of data. */
const BUFFER_BYTES = 1.25 * 2 ** 20

/** The header of the section that carries RAM. */
export function ramHeader({ ramSectionId }: ExportInput): SectionHeader {
  return { id: ramSectionId, idstr: RAM_SECTION, instanceId: 0, version: RAM_SECTION_VERSION }
}

/** Writes a section END of RAM without pages, the devices, and the end of the stream. */
export function encodeStreamEnd(out: Writer, input: ExportInput): void {
  encodeSectionEnd(out, input.ramSectionId)
  endSection(out, input)
  out.bytes(input.devices)
  encodeEndOfStream(out)
  const { description } = input
  if (description === undefined) return
  out.u8(ElementType.vmDescription).u32(description.length).bytes(description)
}

/** Appends the whole stream. */
export async function writeStream(input: ExportInput, sink: ByteSink): Promise<void> {
  const records = new RecordWriter(input, sink)
  try {
    await sink.append(
      encode((out) => {
        encodeFileHeader(out)
        out.bytes(input.configuration)
        encodeSectionStart(out, ramHeader(input))
        const blocks = input.blocks.map(({ name, lengthBytes }) => ({
          name,
          usedLengthBytes: lengthBytes,
        }))
        encodeRamBlockList(out, blocks)
        endSection(out, input)
      }),
    )
    for (const block of input.blocks) {
      await records.bytes(encode((out) => encodeSectionPart(out, input.ramSectionId)))
      await writeBlock(block, records)
      await records.bytes(encode((out) => endSection(out, input)))
    }
    await records.end()
    await sink.append(encode((out) => encodeStreamEnd(out, input)))
  } finally {
    await records.settle()
  }
}

async function writeBlock(block: ExportedBlock, records: RecordWriter): Promise<void> {
  records.begin(block.name)
  let next = 0
  for await (const { offset, bytes } of block.chunks()) {
    await records.zeros(next, offset)
    for (let at = 0; at < bytes.length; at += TARGET_PAGE_SIZE) {
      if (!records.hasRoom) await records.flush()
      records.page(offset + at, bytes.subarray(at, at + TARGET_PAGE_SIZE))
    }
    next = offset + bytes.length
  }
  await records.zeros(next, block.lengthBytes)
}

/** Packs records into one buffer while the other one is written. */
class RecordWriter {
  readonly #input: ExportInput
  readonly #sink: ByteSink
  readonly #pending = new PendingWrite()
  #bytes = new Uint8Array(BUFFER_BYTES)
  #view = new DataView(this.#bytes.buffer)
  #other = new Uint8Array(BUFFER_BYTES)
  #at = 0
  /** For the first record of a section, which names its block. */
  #name: Uint8Array | undefined

  constructor(input: ExportInput, sink: ByteSink) {
    this.#input = input
    this.#sink = sink
  }

  /** The next records are of this block. */
  begin(name: string): void {
    this.#name = encode((out) => out.str8(name))
  }

  /** Whether the buffer takes another record, with a name if need be. */
  get hasRoom(): boolean {
    return this.#at + RAM_PAGE_RECORD_BYTES + (this.#name?.length ?? 0) <= BUFFER_BYTES
  }

  page(offset: number, page: Uint8Array): void {
    if (isZero(page)) {
      this.#zero(offset)
      return
    }
    this.#head(offset + RamFlag.page)
    this.#bytes.set(page, this.#at)
    this.#at += TARGET_PAGE_SIZE
  }

  /** Zero pages in `[from, to)`. */
  async zeros(from: number, to: number): Promise<void> {
    for (let offset = from; offset < to; offset += TARGET_PAGE_SIZE) {
      if (!this.hasRoom) await this.flush()
      this.#zero(offset)
    }
  }

  /** A few bytes that are not a record. */
  async bytes(bytes: Uint8Array): Promise<void> {
    if (!this.hasRoom) await this.flush()
    this.#bytes.set(bytes, this.#at)
    this.#at += bytes.length
  }

  async flush(): Promise<void> {
    this.#input.throwIfAborted()
    const full = this.#bytes.subarray(0, this.#at)
    // The other buffer is free as soon as this has started.
    await this.#pending.start(() => this.#sink.append(full))
    ;[this.#bytes, this.#other] = [this.#other, this.#bytes]
    this.#view = new DataView(this.#bytes.buffer)
    this.#at = 0
  }

  /** Waits until everything is written. */
  async end(): Promise<void> {
    await this.flush()
    await this.#pending.end()
  }

  /** Waits for the last write, whether it has failed or not. */
  async settle(): Promise<void> {
    await this.#pending.settle()
  }

  #zero(offset: number): void {
    this.#head(offset + RamFlag.zero)
    this.#bytes[this.#at] = 0
    this.#at += RAM_ZERO_RECORD_BYTES - RAM_RECORD_HEAD_BYTES
  }

  #head(offsetAndFlags: number): void {
    const name = this.#name
    const head = name === undefined ? offsetAndFlags + RamFlag.continue : offsetAndFlags
    this.#view.setUint32(this.#at, Math.floor(head / 2 ** 32))
    this.#view.setUint32(this.#at + 4, head % 2 ** 32)
    this.#at += RAM_RECORD_HEAD_BYTES
    if (name === undefined) return
    this.#bytes.set(name, this.#at)
    this.#at += name.length
    this.#name = undefined
  }
}

function endSection(out: Writer, { ramSectionId }: ExportInput): void {
  encodeRamEndOfSection(out)
  encodeFooter(out, ramSectionId)
}
