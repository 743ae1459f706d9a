import assert from 'node:assert/strict'
import type { TrackedBlock } from '../../src/ram/dirty-log.js'
import type { SentBlock } from '../../src/source/block.js'
import { PageBitmap } from '../../src/ram/page-bitmap.js'
import { RamBlock } from '../../src/ram/ram-block.js'
import { createCounters } from '../../src/migration/counters.js'
import { RamSender } from '../../src/source/ram-sender.js'
import { StreamDecoder, StreamFeeder } from '../../src/stream/index.js'
import { cleanups } from '../support/cleanup.js'
import { makeRegion } from '../support/memory-kinds.js'

export const PAGE = 4096

export interface TrackedOptions {
  /** Target pages of the region after the block; default 0. */
  spare?: number
}

/** A block of `pages` zero pages, all of them still to be sent. */
export function tracked(
  pages: number,
  hostPages = 1,
  name = 'ram',
  { spare = 0 }: TrackedOptions = {},
): SentBlock {
  const region = makeRegion('anon', pages + spare)
  const pageSizeBytes = hostPages * PAGE
  const lengthBytes = pages * PAGE
  const [block] = RamBlock.attachAll([{ name, regionId: region.id, lengthBytes, pageSizeBytes }])
  assert(block !== undefined)
  cleanups.add(() => block.close())
  const dirty = new PageBitmap(pages)
  dirty.setAll()
  const data = dirty.copy()
  return { block, dirty, data, leftOut: new PageBitmap(pages) }
}

/** The same without a zero page: page `i` is filled with `i % 255 + 1`. */
export function filled(...args: Parameters<typeof tracked>): SentBlock {
  const one = tracked(...args)
  const { region, pageCount } = one.block
  for (let page = 0; page < pageCount; page += 1) {
    region.write(page * PAGE, new Uint8Array(PAGE).fill((page % 255) + 1))
  }
  return one
}

/** `name:first`, …, `name:end - 1`. */
export function pagesOf(name: string, first: number, end: number): string[] {
  return Array.from({ length: end - first }, (_, index) => `${name}:${first + index}`)
}

/** Decodes what a source sends after its block list. */
export class SourceStream {
  /** `PART`, `END`, `EOF`, `RECV_BITMAP`, `RESUME`, `ping`, `ram:3` (a page), `ram:3 zero`. */
  readonly elements: string[] = []
  /** Values of the pings, in order. */
  readonly pings: number[] = []
  readonly #feeder: StreamFeeder

  constructor(blocks: readonly TrackedBlock[], ramSectionId = 2) {
    const add = (element: string) => () => void this.elements.push(element)
    const decoder = new StreamDecoder(
      {
        sectionPart: add('PART'),
        sectionEnd: add('END'),
        endOfStream: add('EOF'),
        recvBitmap: add('RECV_BITMAP'),
        resume: add('RESUME'),
        ramPage: (name, offset) => void this.elements.push(`${name}:${offset / PAGE}`),
        ramZero: (name, offset) => void this.elements.push(`${name}:${offset / PAGE} zero`),
        ping: (value) => {
          this.pings.push(value)
          this.elements.push('ping')
        },
      },
      {
        resume: {
          ramSectionId,
          blocks: blocks.map(({ block }) => ({
            name: block.name,
            usedLengthBytes: block.lengthBytes,
          })),
        },
      },
    )
    this.#feeder = new StreamFeeder(decoder)
  }

  push(bytes: Uint8Array): void {
    this.#feeder.push(bytes)
  }

  /** The pages, zero or not, in order of arrival. */
  get pages(): string[] {
    return this.elements.filter((one) => one.includes(':')).map((one) => one.replace(' zero', ''))
  }

  /** Bytes of an incomplete element. */
  get leftoverBytes(): number {
    return this.#feeder.leftoverBytes
  }
}

/** Bytes of a PART besides its records, of a page and of a zero page with their headers. */
export const FRAME_BYTES = 18
export const RECORD_BYTES = 8 + PAGE
export const ZERO_RECORD_BYTES = 9

/**
 * A RamSender of blocks, and what a destination would decode.
 *
 * @param loaded - called when pages were read from disk
 */
export function senderOf(blocks: readonly TrackedBlock[], loaded?: () => void) {
  const counters = createCounters()
  const ram = new RamSender(blocks, counters, undefined, loaded)
  ram.recount()
  const stream = new SourceStream(blocks)
  const out = new Uint8Array(ram.batchBytes(64))
  return {
    ram,
    counters,
    stream,
    /** Sends what `pack` makes. @returns the pages of it */
    send: (pack: (out: Uint8Array) => number, room = out): string[] => {
      const before = stream.pages.length
      stream.push(room.slice(0, pack(room)))
      return stream.pages.slice(before)
    },
  }
}
