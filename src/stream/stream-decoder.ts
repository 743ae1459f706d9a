// The main channel, source to destination. The legal order of elements:
//
//   header -> configuration -> top
//   top -> START: blockList -> ram -> footer -> top
//       -> PART, END: ram -> footer -> top
//       -> PACKAGED: blob -> top, phase postcopy
//       -> FULL after the ram END: tail -> finished
//       -> EOF: finished in postcopy; in precopy afterEof -> description -> finished
import { BlockListDecoder } from './block-list-decoder.js'
import { ChannelDecoder, INCOMPLETE } from './channel-decoder.js'
import { checkCommand, dispatchCommand, type CommandEffects } from './command-decoder.js'
import { readConfiguration } from './configuration-decoder.js'
import { COMMAND_HEADER_BYTES, ElementType, FILE_MAGIC, FILE_VERSION } from './constants.js'
import { DEFAULT_LIMITS, type StreamDecoderOptions, type StreamLimits } from './decoder-options.js'
import { type DeviceTail, DeviceTailCollector } from './device-tail.js'
import { checkLimit, refuse } from './errors.js'
import { GrowingBuffer } from '../growing-buffer.js'
import type { StreamHandler } from './handler.js'
import { isJsonObject } from './json-reader.js'
import { RamBlockTable } from './ram-block-table.js'
import { RamRecordDecoder } from './ram-record-decoder.js'
import { copyOf, Reader, u16At, u32At } from './reader.js'
import { FOOTER_BYTES, RamSectionTracker } from './ram-section-tracker.js'
import { hex } from '../units.js'

type State =
  | 'header'
  | 'configuration'
  | 'top'
  | 'blockList'
  | 'ram'
  | 'footer'
  | 'blob'
  | 'tail'
  | 'afterEof'
  | 'description'

/** The phase of the migration in which the bytes were sent. */
export type StreamPhase = 'precopy' | 'postcopy'

/**
 * Decodes the main channel of a migration into calls of a handler. Its input may be split at any
 * byte. It checks the framing and the values that it needs for decoding. The receiver has to check
 * whether a command is legal in the state of the migration.
 *
 * Memory use follows the received bytes, not announced lengths. No page needs an allocation.
 */
export class StreamDecoder extends ChannelDecoder {
  /** `postcopy` from the package on; on the connection of a recovery, from the start. */
  phase: StreamPhase = 'precopy'

  readonly #handler: StreamHandler
  readonly #options: StreamDecoderOptions
  readonly #limits: StreamLimits
  readonly #table: RamBlockTable
  readonly #records: RamRecordDecoder
  readonly #section: RamSectionTracker
  readonly #effects: CommandEffects
  #state: State = 'header'
  #pageSizeSummary: number | undefined
  #blockList: BlockListDecoder | undefined
  /** A payload that is consumed as it arrives, and the offset of its element. */
  #payload: GrowingBuffer | undefined
  #payloadOffset = 0
  #tail: DeviceTailCollector | undefined

  constructor(handler: StreamHandler, options: StreamDecoderOptions = {}) {
    super()
    this.#handler = handler
    this.#options = options
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits }
    this.#table = new RamBlockTable(options.resume?.blocks)
    this.#records = new RamRecordDecoder(handler, this.#table)
    this.#section = new RamSectionTracker(handler, options.resume?.ramSectionId)
    this.#effects = {
      table: this.#table,
      handler,
      advised: (summary) => {
        this.#pageSizeSummary = summary
      },
      packaged: (length, offset) => {
        this.#beginBlob(length, offset)
      },
    }
    if (options.resume !== undefined) {
      this.#state = 'top'
      this.phase = 'postcopy'
    }
  }

  protected override step(bytes: Uint8Array, at: number, end: number): number {
    switch (this.#state) {
      case 'ram':
        return this.#ram(bytes, at, end)
      case 'top':
        return this.#top(bytes, at, end)
      case 'footer':
        return this.#footer(bytes, at, end)
      case 'header':
        return this.#header(bytes, at, end)
      case 'configuration':
        return this.#configuration(bytes, at, end)
      case 'blockList':
        return this.#list(bytes, at, end)
      case 'blob':
        return this.#blob(bytes, at, end)
      case 'tail':
        return this.#deviceTail(bytes, at, end)
      case 'afterEof':
        return this.#afterEof(bytes, at, end)
      case 'description':
        return this.#description(bytes, at, end)
    }
  }

  protected override finish(leftover: number): void {
    if (this.#state === 'tail' && this.#tail !== undefined) {
      this.#finishTail(this.#tail.finish())
    } else if (this.#state === 'afterEof' && leftover === 0) {
      this.isFinished = true
    } else {
      const where = this.#state === 'top' ? 'between elements' : `inside: ${this.#state}`
      refuse('truncated', `the channel ended ${where}`, this.streamOffset)
    }
  }

  #header(bytes: Uint8Array, at: number, end: number): number {
    if (end - at < 4) return INCOMPLETE
    const magic = u32At(bytes, at)
    if (magic !== FILE_MAGIC) {
      refuse('magic', `${hex(magic)} does not begin a migration stream`, this.base + at)
    }
    if (end - at < 8) return INCOMPLETE
    const version = u32At(bytes, at + 4)
    if (version !== FILE_VERSION) {
      refuse('version', `file version ${version}, not ${FILE_VERSION}`, this.base + at)
    }
    this.#handler.fileHeader?.(version)
    this.#state = 'configuration'
    return at + 8
  }

  #configuration(bytes: Uint8Array, at: number, end: number): number {
    const type = bytes[at] ?? 0
    if (type !== ElementType.configuration) {
      refuse('configuration', `${hex(type)} instead of the configuration`, this.base + at)
    }
    const reader = new Reader(bytes, this.base + at, at, end)
    const configuration = readConfiguration(reader)
    if (configuration === undefined) return INCOMPLETE
    const next = at + reader.position
    this.#state = 'top'
    const { machineType, subsections } = configuration
    this.#handler.configuration?.(machineType, copyOf(bytes, at, next), subsections)
    return next
  }

  #top(bytes: Uint8Array, at: number, end: number): number {
    const offset = this.base + at
    const type = bytes[at] ?? 0
    switch (type) {
      case ElementType.sectionPart:
      case ElementType.sectionEnd:
        if (end - at < 5) return INCOMPLETE
        this.#section.resume(type, u32At(bytes, at + 1), offset)
        this.#state = 'ram'
        return at + 5
      case ElementType.command:
        return this.#command(bytes, at, end)
      case ElementType.sectionStart: {
        if (this.phase === 'postcopy') refuse('element', 'a START in postcopy', offset)
        const next = this.#section.start(bytes, at, end, offset)
        if (next !== INCOMPLETE) this.#beginList()
        return next
      }
      case ElementType.sectionFull:
        this.#checkTailMayBegin(offset)
        this.#tail = new DeviceTailCollector(
          this.#limits.maxDeviceTailBytes,
          this.#limits.maxDescriptionBytes,
          offset,
        )
        this.#payloadOffset = offset
        this.#state = 'tail'
        return this.#deviceTail(bytes, at, end)
      case ElementType.endOfStream:
        if (!this.#section.hasEnded) refuse('element', 'EOF before the END of ram', offset)
        this.#handler.endOfStream?.()
        if (this.phase === 'postcopy') this.isFinished = true
        else this.#state = 'afterEof'
        return at + 1
      default:
        return refuse('element', `${hex(type)} does not begin an element`, offset)
    }
  }

  #command(bytes: Uint8Array, at: number, end: number): number {
    if (end - at < COMMAND_HEADER_BYTES) return INCOMPLETE
    checkCommand(bytes, at, this.base + at)
    const next = at + COMMAND_HEADER_BYTES + u16At(bytes, at + 3)
    if (end < next) return INCOMPLETE
    dispatchCommand(bytes, at, this.base + at, this.#effects)
    return next
  }

  #beginBlob(lengthBytes: number, offset: number): void {
    if (this.phase === 'postcopy') refuse('package', 'a second package', offset)
    checkLimit('a package', lengthBytes, this.#limits.maxPackageBytes, offset)
    if (lengthBytes === 0) refuse('package', 'an empty package', offset)
    this.#payload = new GrowingBuffer(lengthBytes)
    this.#payloadOffset = offset + COMMAND_HEADER_BYTES + 4
    this.#state = 'blob'
  }

  #blob(bytes: Uint8Array, at: number, end: number): number {
    const payload = this.#payload
    if (payload === undefined) return INCOMPLETE
    const next = at + payload.append(bytes, at, end)
    if (payload.isFull) {
      this.#payload = undefined
      this.#state = 'top'
      this.phase = 'postcopy'
      this.#handler.packaged?.(payload.take(), this.#payloadOffset)
    }
    return next
  }

  #beginList(): void {
    this.#blockList = new BlockListDecoder({
      maxRamBlocks: this.#limits.maxRamBlocks,
      pageSizeOf: this.#options.pageSizeOf,
      pageSizeSummary: this.#pageSizeSummary,
    })
    this.#state = 'blockList'
  }

  #list(bytes: Uint8Array, at: number, end: number): number {
    const list = this.#blockList
    if (list === undefined) return INCOMPLETE
    const next = list.step(bytes, at, end, this.base)
    if (next !== INCOMPLETE && list.isComplete) {
      this.#blockList = undefined
      this.#table.blocks.push(...list.blocks)
      this.#state = 'ram'
      this.#handler.ramBlocks?.(list.blocks)
    }
    return next
  }

  #ram(bytes: Uint8Array, at: number, end: number): number {
    const next = this.#records.step(bytes, at, end, this.base, this)
    if (next !== INCOMPLETE && this.#records.atEndOfSection) this.#state = 'footer'
    return next
  }

  #footer(bytes: Uint8Array, at: number, end: number): number {
    if (!this.#section.close(bytes, at, end, this.base + at)) return INCOMPLETE
    this.#state = 'top'
    return at + FOOTER_BYTES
  }

  #checkTailMayBegin(offset: number): void {
    if (this.phase === 'postcopy') refuse('element', 'a device section in postcopy', offset)
    if (!this.#section.hasEnded) {
      const advice = 'devices with early setup, such as virtio-mem, cannot be received'
      refuse('section', `a device section before the END of ram: ${advice}`, offset)
    }
  }

  #deviceTail(bytes: Uint8Array, at: number, end: number): number {
    const result = this.#tail?.append(bytes, at, end)
    if (result?.tail !== undefined) this.#finishTail(result.tail)
    return at + (result?.taken ?? 0)
  }

  #finishTail({ devices, description }: DeviceTail): void {
    this.#tail = undefined
    this.isFinished = true
    this.#handler.deviceTail?.(devices, this.#payloadOffset)
    this.#handler.endOfStream?.()
    if (description !== undefined) this.#handler.vmDescription?.(description)
  }

  #afterEof(bytes: Uint8Array, at: number, end: number): number {
    const offset = this.base + at
    if (bytes[at] !== ElementType.vmDescription) refuse('element', 'bytes after the end', offset)
    if (end - at < 5) return INCOMPLETE
    const lengthBytes = u32At(bytes, at + 1)
    checkLimit('a description', lengthBytes, this.#limits.maxDescriptionBytes, offset)
    if (lengthBytes === 0) refuse('description', 'an empty description', offset)
    this.#payload = new GrowingBuffer(lengthBytes)
    this.#payloadOffset = offset
    this.#state = 'description'
    return at + 5
  }

  #description(bytes: Uint8Array, at: number, end: number): number {
    const payload = this.#payload
    if (payload === undefined) return INCOMPLETE
    const next = at + payload.append(bytes, at, end)
    if (payload.isFull) {
      const text = payload.take()
      if (!isJsonObject(text))
        refuse('description', 'a description that is not JSON', this.#payloadOffset)
      this.isFinished = true
      this.#handler.vmDescription?.(new TextDecoder().decode(text))
    }
    return next
  }
}
