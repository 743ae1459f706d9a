import * as stream from '../../src/stream/index.js'

const RAM_ID = 77

/** A saved precopy stream, sent again as a postcopy source would. */
export class SavedStream {
  blocks: readonly stream.RamBlockInfo[] = []
  #configuration: Uint8Array = new Uint8Array()
  #devices: Uint8Array = new Uint8Array()
  readonly #pages = new Map<string, Uint8Array>()

  constructor(bytes: Uint8Array) {
    const decoder = new stream.StreamDecoder({
      configuration: (_machineType, raw) => {
        this.#configuration = raw
      },
      ramBlocks: (blocks) => {
        this.blocks = blocks
      },
      ramPage: (block, offset, input, start) => {
        this.#pages.set(`${block}@${offset}`, new Uint8Array(input.subarray(start, start + 4096)))
      },
      ramZero: (block, offset) => {
        this.#pages.delete(`${block}@${offset}`)
      },
      deviceTail: (devices) => {
        this.#devices = devices
      },
    })
    decoder.write(bytes)
    decoder.end()
  }

  /** Everything up to the package, and the ping after it. */
  prologue(): Uint8Array {
    return stream.encode((out) => {
      stream.encodeFileHeader(out)
      out.bytes(this.#configuration)
      stream.encodeOpenReturnPath(out)
      stream.encodePing(out, stream.PingValue.start)
      stream.encodeAdvise(out, 4096, 4096)
      stream.encodeSectionStart(out, { id: RAM_ID, idstr: 'ram', instanceId: 0, version: 4 })
      stream.encodeRamBlockList(out, this.blocks)
      stream.encodeRamEndOfSection(out)
      stream.encodeFooter(out, RAM_ID)
      for (const { name, usedLengthBytes } of this.blocks) {
        stream.encodeRamDiscard(out, name, [0, usedLengthBytes])
      }
      stream.encodePing(out, stream.PingValue.beforePackage)
      stream.encodePackaged(out, stream.encodePackage(this.#devices))
      stream.encodePing(out, stream.PingValue.afterPackage)
    })
  }

  /** A PART with these pages. */
  part(pages: readonly (readonly [block: string, offset: number])[]): Uint8Array {
    return stream.encode((out) => {
      stream.encodeSectionPart(out, RAM_ID)
      for (const [block, offset] of pages) {
        const page = this.#pages.get(`${block}@${offset}`)
        if (page === undefined) stream.encodeRamZero(out, block, offset)
        else stream.encodeRamPage(out, block, offset, page)
      }
      stream.encodeRamEndOfSection(out)
      stream.encodeFooter(out, RAM_ID)
    })
  }

  /** END of ram, EOF. */
  epilogue(): Uint8Array {
    return stream.encode((out) => {
      stream.encodeSectionEnd(out, RAM_ID)
      stream.encodeRamEndOfSection(out)
      stream.encodeFooter(out, RAM_ID)
      stream.encodeEndOfStream(out)
    })
  }
}
