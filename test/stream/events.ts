import { createHash } from 'node:crypto'
import type { ReturnPathHandler, StreamHandler } from '../../src/stream/index.js'

/** A call of a decoder as plain data: the method's name, then its arguments. */
export type Event = readonly [name: string, ...args: unknown[]]

/** Represents bytes in an event: pages and blobs are too long to be printed. */
export function digest(bytes: Uint8Array, start = 0, end = bytes.length): string {
  const hash = createHash('sha256').update(bytes.subarray(start, end)).digest('hex')
  return `${end - start} bytes ${hash.slice(0, 16)}`
}

/** Records every call for a main or preempt channel. */
export function recordStream(events: Event[]): StreamHandler {
  const add = (...event: Event) => {
    events.push(event)
  }
  return {
    fileHeader: (version) => {
      add('fileHeader', version)
    },
    configuration: (machineType, raw, subsections) => {
      const plain = subsections.map((one) => ('uuid' in one ? [one.name, digest(one.uuid)] : one))
      add('configuration', machineType, digest(raw), plain)
    },
    openReturnPath: () => {
      add('openReturnPath')
    },
    ping: (value) => {
      add('ping', value)
    },
    advise: (summary, targetPageSize) => {
      add('advise', summary, targetPageSize)
    },
    ramDiscard: (block, ranges) => {
      add('ramDiscard', block, [...ranges])
    },
    packaged: (blob, offset) => {
      add('packaged', digest(blob), offset)
    },
    resume: () => {
      add('resume')
    },
    recvBitmap: (block) => {
      add('recvBitmap', block)
    },
    switchoverStart: () => {
      add('switchoverStart')
    },
    sectionStart: (header) => {
      add('sectionStart', { ...header })
    },
    sectionPart: ({ id }) => {
      add('sectionPart', id)
    },
    sectionEnd: ({ id }) => {
      add('sectionEnd', id)
    },
    footer: (id) => {
      add('footer', id)
    },
    ramBlocks: (blocks) => {
      add('ramBlocks', [...blocks])
    },
    ramPage: (block, offset, bytes, start) => {
      add('ramPage', block, offset, digest(bytes, start, start + 4096))
    },
    ramZero: (block, offset) => {
      add('ramZero', block, offset)
    },
    ramEndOfSection: () => {
      add('ramEndOfSection')
    },
    deviceTail: (bytes, offset) => {
      add('deviceTail', digest(bytes), offset)
    },
    endOfStream: () => {
      add('endOfStream')
    },
    vmDescription: (json) => {
      add('vmDescription', json)
    },
  }
}

/** Records every call for a return path. */
export function recordReturnPath(events: Event[]): ReturnPathHandler {
  return {
    shut: (value) => {
      events.push(['shut', value])
    },
    pong: (value) => {
      events.push(['pong', value])
    },
    requestPages: (block, start, lengthBytes) => {
      events.push(['requestPages', block, start, lengthBytes])
    },
    recvBitmap: (block, bitmap) => {
      events.push(['recvBitmap', block, digest(bitmap)])
    },
    resumeAck: () => {
      events.push(['resumeAck'])
    },
    switchoverAck: () => {
      events.push(['switchoverAck'])
    },
  }
}

/**
 * Adds a bulk hook to a recorder. It takes at most `budget` records per call, one after the other,
 * and reports them with the same events.
 */
export function withBulkHook(handler: StreamHandler, budget: number): StreamHandler {
  return {
    ...handler,
    ramRecords(block, bytes, start, end) {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      let at = start
      for (let taken = 0; taken < budget && end - at >= 9; taken += 1) {
        const head = Number(view.getBigUint64(at))
        const kind = head % 4096
        const length = kind === 0x28 ? 4096 : kind === 0x22 ? 1 : Infinity
        if (end - at < 8 + length || (length === 1 && bytes[at + 8] !== 0)) break
        if (length === 1) handler.ramZero?.(block, head - kind)
        else handler.ramPage?.(block, head - kind, bytes, at + 8)
        at += 8 + length
      }
      return at - start
    },
  }
}
