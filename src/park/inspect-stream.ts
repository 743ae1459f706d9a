/** Inspects a saved stream, in memory that does not grow with its length. */
import { PostcopyError } from '../errors.js'
import {
  type ConfigurationSubsection,
  findPackagePings,
  PingValue,
  type RamBlockInfo,
  StreamDecoder,
  type StreamHandler,
} from '../stream/index.js'
import { type DeviceSize, sizeDevices } from '../stream/internal.js'
import { openStream, readStream } from './read-stream.js'

export interface BlockReport {
  readonly name: string
  readonly lengthBytes: number
  /** Announced only if it differs from that of the host. */
  readonly pageSizeBytes: number | undefined
  normalPages: number
  zeroPages: number
  discardedBytes: number
}

export interface DevicesReport {
  readonly lengthBytes: number
  /** Undefined if the lengths of the sections are not known. */
  readonly sections: readonly DeviceSize[] | undefined
}

/** The contents of a stream, as far as it could be read. */
export interface StreamReport {
  /** Bytes that were decoded. */
  lengthBytes: number
  /** `unfinished`: it ends, or cannot be read, before the devices. */
  way: 'precopy' | 'postcopy' | 'unfinished'
  machineType: string | undefined
  configuration: ConfigurationSubsection[]
  ramSectionId: number | undefined
  /** Number of `ram` sections by kind. */
  readonly ramSections: { start: number; part: number; end: number }
  /** Number of commands by QEMU's name. */
  readonly commands: Record<string, number>
  blocks: BlockReport[]
  devices: DevicesReport | undefined
  /** Values of the pings in the package. */
  packagePings: readonly number[] | undefined
  descriptionBytes: number | undefined
  /** Peculiarities, as sentences for a reader. */
  readonly oddities: string[]
  /** Why it could not be read to its end. */
  error: PostcopyError | undefined
}

/** Most unknown pings that are listed; there may be millions. */
const MOST_NAMED_PINGS = 8
const KNOWN_PINGS: ReadonlySet<number> = new Set(Object.values(PingValue))

/**
 * Reads a whole saved stream. Errors in the stream are part of the report.
 *
 * @throws Error of the file system with `code`
 */
export async function inspectStream(file: string): Promise<StreamReport> {
  const inspection = new Inspection()
  const leftover = await readStream(openStream(file), (bytes, start, end) => {
    const taken = inspection.take(bytes, start, end)
    return inspection.report.error === undefined ? taken : undefined
  })
  return inspection.finish(leftover)
}

class Inspection {
  readonly report: StreamReport = {
    lengthBytes: 0,
    way: 'unfinished',
    machineType: undefined,
    configuration: [],
    ramSectionId: undefined,
    ramSections: { start: 0, part: 0, end: 0 },
    commands: {},
    blocks: [],
    devices: undefined,
    packagePings: undefined,
    descriptionBytes: undefined,
    oddities: [],
    error: undefined,
  }
  readonly #decoder = new StreamDecoder(this.#handler())
  readonly #byName = new Map<string, BlockReport>()
  readonly #unknownPings = new Set<number>()
  #unnamedPings = 0
  #sections: Uint8Array | undefined

  take(bytes: Uint8Array, start: number, end: number): number {
    return this.#guarded(() => this.#decoder.write(bytes, start, end)) ?? end - start
  }

  finish(leftover: number): StreamReport {
    const { report } = this
    if (report.error === undefined) this.#guarded(() => this.#decoder.end(leftover))
    report.lengthBytes = this.#decoder.streamOffset
    for (const value of this.#unknownPings) report.oddities.push(`a ping with the value ${value}`)
    if (this.#unnamedPings > 0) {
      report.oddities.push(`${this.#unnamedPings} more pings with unknown values`)
    }
    if (report.error !== undefined) report.oddities.push(report.error.message)
    if (report.way === 'precopy' && report.descriptionBytes === undefined) {
      report.oddities.push('no device description: the sizes of the devices are unknown')
    }
    if (
      report.way === 'postcopy' &&
      report.blocks.every(({ discardedBytes }) => discardedBytes === 0)
    ) {
      report.oddities.push('postcopy without a discard: a QEMU destination would hang')
    }
    return report
  }

  #guarded<T>(read: () => T): T | undefined {
    try {
      return read()
    } catch (error) {
      if (!(error instanceof PostcopyError)) throw error
      this.report.error = error
      return undefined
    }
  }

  #handler(): StreamHandler {
    const { report } = this
    return {
      configuration: (machineType, _raw, subsections) => {
        report.machineType = machineType
        report.configuration = [...subsections]
      },
      sectionStart: ({ id }) => {
        report.ramSectionId = id
        report.ramSections.start += 1
      },
      sectionPart: () => (report.ramSections.part += 1),
      sectionEnd: () => (report.ramSections.end += 1),
      ramBlocks: (blocks) => this.#blocks(blocks),
      ramPage: (name) => this.#block(name, (block) => (block.normalPages += 1)),
      ramZero: (name) => this.#block(name, (block) => (block.zeroPages += 1)),
      ramDiscard: (name, ranges) => {
        this.#command('POSTCOPY_RAM_DISCARD')
        for (let at = 1; at < ranges.length; at += 2) {
          this.#block(name, (block) => (block.discardedBytes += ranges[at] ?? 0))
        }
      },
      openReturnPath: () => this.#command('OPEN_RETURN_PATH'),
      ping: (value) => {
        this.#command('PING')
        this.#ping(value)
      },
      advise: () => this.#command('POSTCOPY_ADVISE'),
      resume: () => this.#command('POSTCOPY_RESUME'),
      recvBitmap: () => this.#command('RECV_BITMAP'),
      switchoverStart: () => this.#command('SWITCHOVER_START'),
      packaged: (blob, streamOffset) => {
        this.#command('PACKAGED')
        report.way = 'postcopy'
        const { devices, pings } = findPackagePings(blob, streamOffset)
        report.packagePings = pings
        report.devices = { lengthBytes: devices.length, sections: undefined }
      },
      deviceTail: (sections) => {
        report.way = 'precopy'
        this.#sections = sections
        report.devices = { lengthBytes: sections.length, sections: undefined }
      },
      vmDescription: (json) => this.#description(json),
    }
  }

  #command(name: string): void {
    this.report.commands[name] = (this.report.commands[name] ?? 0) + 1
  }

  #ping(value: number): void {
    if (KNOWN_PINGS.has(value) || this.#unknownPings.has(value)) return
    if (this.#unknownPings.size < MOST_NAMED_PINGS) this.#unknownPings.add(value)
    else this.#unnamedPings += 1
  }

  #blocks(blocks: readonly RamBlockInfo[]): void {
    for (const { name, usedLengthBytes, pageSizeBytes } of blocks) {
      const counts = { normalPages: 0, zeroPages: 0, discardedBytes: 0 }
      const block = { name, lengthBytes: usedLengthBytes, pageSizeBytes, ...counts }
      this.report.blocks.push(block)
      this.#byName.set(name, block)
    }
  }

  #block(name: string, change: (block: BlockReport) => void): void {
    const block = this.#byName.get(name)
    if (block !== undefined) change(block)
  }

  #description(json: string): void {
    const { report } = this
    const text = Buffer.from(json)
    report.descriptionBytes = text.length
    if (this.#sections === undefined) return
    const sections = sizeDevices(this.#sections, text)
    report.devices = { lengthBytes: this.#sections.length, sections }
    if (sections === undefined)
      report.oddities.push('the device description does not match the device state')
  }
}
