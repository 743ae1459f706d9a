/** The thread of a {@link startProxy}: forwards both ways, and makes the one change. */
import net from 'node:net'
import { parentPort, workerData } from 'node:worker_threads'
import * as stream from '../../src/stream/index.js'
import type { ProxyData, Tampered } from './tampering-proxy.js'

const { targetPort, tampering } = workerData as ProxyData
const PAGE = 4096
/** The pages of vCPUs are first in the block; those of devices are last and never changed. */
const BLOCK = 'ram'
const VCPU_BYTES = 2 ** 20

function report(...offsets: number[]): void {
  parentPort?.postMessage({ offsets } satisfies Tampered)
}

/** Encodes the elements again as they were, except for the change. */
class Forwarder {
  readonly #out = new stream.Writer()
  readonly #send: (bytes: Uint8Array) => void
  readonly #cut: () => void
  readonly #feeder: stream.StreamFeeder
  #section = 0
  #inPostcopy = false
  #postcopyPages = 0
  #done = false
  /** Held back until the second page of a swap arrives. */
  #held: { offset: number; page: Buffer; rest: stream.Writer } | undefined
  /** Content that was sent in precopy. */
  readonly #earlier = new Map<number, Buffer>()

  constructor(send: (bytes: Uint8Array) => void, cut: () => void) {
    this.#send = send
    this.#cut = cut
    this.#feeder = new stream.StreamFeeder(new stream.StreamDecoder(this.#handler()))
  }

  push(chunk: Uint8Array): void {
    this.#feeder.push(chunk)
    if (this.#out.length > 0) this.#send(this.#out.take())
  }

  #handler(): stream.StreamHandler {
    const out = this.#out
    return {
      fileHeader: () => stream.encodeFileHeader(out),
      configuration: (_machineType, raw) => out.bytes(raw),
      openReturnPath: () => stream.encodeOpenReturnPath(out),
      ping: (value) => stream.encodePing(this.#held?.rest ?? out, value),
      advise: (summary, size) => stream.encodeAdvise(out, summary ?? 0, size ?? 0),
      ramDiscard: (block, ranges) => this.#discard(block, ranges),
      packaged: (blob) => this.#package(blob),
      sectionStart: (header) => {
        this.#section = header.id
        stream.encodeSectionStart(out, header)
      },
      sectionPart: ({ id }) => stream.encodeSectionPart(this.#held?.rest ?? out, id),
      sectionEnd: ({ id }) => stream.encodeSectionEnd(this.#held?.rest ?? out, id),
      footer: (id) => stream.encodeFooter(this.#held?.rest ?? out, id),
      ramBlocks: (blocks) => stream.encodeRamBlockList(out, blocks),
      ramPage: (block, offset, bytes, start) => {
        this.#page(block, offset, Buffer.from(bytes.subarray(start, start + PAGE)))
      },
      ramZero: (block, offset) => {
        stream.encodeRamZero(this.#held?.rest ?? out, block, offset)
        this.#countPage()
      },
      ramEndOfSection: () => stream.encodeRamEndOfSection(this.#held?.rest ?? out),
      deviceTail: (sections) => out.bytes(flipDevice(sections)),
      endOfStream: () => stream.encodeEndOfStream(out),
      vmDescription: (json) => stream.encodeVmDescription(out, json),
    }
  }

  #discard(block: string, ranges: Float64Array): void {
    if (tampering.type === 'drop discard' && !this.#done) {
      this.#done = true
      report(ranges[0] ?? 0)
      return
    }
    stream.encodeRamDiscard(this.#out, block, ranges)
  }

  #package(blob: Uint8Array): void {
    this.#inPostcopy = true
    if (tampering.type === 'cut' && typeof tampering.at === 'string') {
      const packaged = stream.encode((out) => stream.encodePackaged(out, blob))
      const parts = { 'before package': 0, 'in package': packaged.length / 2 }
      const length = tampering.at === 'after package' ? packaged.length : parts[tampering.at]
      this.#send(this.#out.take())
      this.#send(packaged.subarray(0, length))
      report()
      this.#cut()
      return
    }
    stream.encodePackaged(this.#out, flipDevice(blob))
  }

  #page(block: string, offset: number, page: Buffer): void {
    if (!this.#done && block === BLOCK && offset < VCPU_BYTES && this.#change(offset, page)) return
    stream.encodeRamPage(this.#held?.rest ?? this.#out, block, offset, page)
    this.#countPage()
  }

  /** Makes the change if this is the page for it; returns true if the page needs no forwarding. */
  #change(offset: number, page: Buffer): boolean {
    switch (tampering.type) {
      case 'drop page':
        this.#done = this.#inPostcopy
        if (this.#done) report(offset)
        return this.#done
      case 'flip bit':
        if (this.#inPostcopy !== (tampering.phase === 'postcopy')) return false
        this.#done = true
        page.writeUInt8(page.readUInt8(1234) ^ 4, 1234)
        report(offset)
        return false
      case 'replay page': {
        const earlier = this.#earlier.get(offset)
        if (!this.#inPostcopy) this.#earlier.set(offset, page)
        if (!this.#inPostcopy || earlier === undefined || earlier.equals(page)) return false
        this.#done = true
        earlier.copy(page)
        report(offset)
        return false
      }
      case 'swap pages': {
        if (!this.#inPostcopy) return false
        const first = this.#held
        if (first === undefined) {
          this.#held = { offset, page, rest: new stream.Writer() }
          return true
        }
        this.#done = true
        this.#held = undefined
        stream.encodeRamPage(this.#out, BLOCK, first.offset, page)
        this.#out.bytes(first.rest.take())
        stream.encodeRamPage(this.#out, BLOCK, offset, first.page)
        report(first.offset, offset)
        return true
      }
      default:
        return false
    }
  }

  #countPage(): void {
    if (!this.#inPostcopy || tampering.type !== 'cut' || typeof tampering.at !== 'number') return
    this.#postcopyPages += 1
    if (this.#postcopyPages !== tampering.at) return
    stream.encodeRamEndOfSection(this.#out)
    stream.encodeFooter(this.#out, this.#section)
    this.#send(this.#out.take())
    report()
    this.#cut()
  }
}

/** Flips a bit in the state of a device, which follows its header. */
function flipDevice<T extends Uint8Array>(sections: T): T {
  if (tampering.type !== 'flip device bit') return sections
  const header = stream.encode((out) => out.str8(tampering.idstr))
  const at = Buffer.from(sections).indexOf(header) + header.length + 8 + 7
  sections[at] = (sections[at] ?? 0) ^ 1
  report()
  return sections
}

/** Drops SHUT, which is the last message and 8 bytes long. */
function withoutShut(chunk: Buffer): Buffer {
  const shut = stream.encode((out) => stream.encodeShut(out, 0))
  if (tampering.type !== 'swallow SHUT' || !chunk.subarray(-shut.length).equals(shut)) return chunk
  report()
  return chunk.subarray(0, -shut.length)
}

const server = net.createServer({ allowHalfOpen: true }, (source) => {
  server.close()
  const target = net.connect({ port: targetPort, host: '127.0.0.1', allowHalfOpen: true })
  const cut = (): void => {
    isCut = true
    // What was forwarded before must arrive.
    target.end(() => target.destroy())
    source.resetAndDestroy()
  }
  let isCut = false
  const forwarder = new Forwarder((bytes) => {
    if (!isCut) target.write(bytes)
  }, cut)
  for (const socket of [source, target]) {
    socket.setNoDelay(true)
    socket.on('error', () => undefined)
  }
  source.on('data', (chunk) => {
    if (!isCut) forwarder.push(chunk)
  })
  target.on('data', (chunk) => source.write(withoutShut(chunk)))
  source.on('end', () => target.end())
  target.on('end', () => source.end())
  source.on('close', () => target.destroy())
  target.on('close', () => source.destroy())
})
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  if (typeof address === 'object' && address !== null) parentPort?.postMessage(address.port)
})
