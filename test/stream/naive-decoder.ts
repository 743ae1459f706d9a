/**
 * A second decoder, for whole valid streams: slow, written from the wire format alone, with an
 * object per element. It shares only the events with the fast decoder.
 */
import { isUtf8 } from 'node:buffer'
import { digest, type Event } from './events.js'

interface Block {
  name: string
  usedLengthBytes: number
  pageSizeBytes?: number
}

/** @param pageSizes - of the blocks that have this field, by name */
export function decodeNaively(bytes: Uint8Array, pageSizes = new Map<string, number>()): Event[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const events: Event[] = []
  const blocks: Block[] = []
  let at = 0
  let lastBlock = ''
  const seen = { package: false }

  const u8 = () => view.getUint8(at++)
  const u16 = () => view.getUint16((at += 2) - 2)
  const u32 = () => view.getUint32((at += 4) - 4)
  const u64 = () => Number(view.getBigUint64((at += 8) - 8))
  const take = (count: number) => bytes.subarray(at, (at += count))
  const text = (count: number) => {
    const name = Buffer.from(take(count))
    if (isUtf8(name)) return name.toString()
    return [...name].map((byte) => String.fromCharCode(byte < 128 ? byte : 0xdc00 + byte)).join('')
  }
  const str8 = () => text(u8())

  function configuration(): void {
    const start = at
    u8()
    const machineType = text(u32())
    const subsections: unknown[] = []
    while (view.getUint8(at) === 5) {
      u8()
      const name = str8()
      u32()
      if (name === 'configuration/uuid') subsections.push([name, digest(take(16))])
      else if (name === 'configuration/target-page-bits') subsections.push({ name, bits: u32() })
      else subsections.push({ name, capabilities: Array.from({ length: u32() }, str8) })
    }
    events.push(['configuration', machineType, digest(bytes, start, at), subsections])
  }

  function ram(): void {
    for (;;) {
      const head = u64()
      const flags = head % 4096
      const offset = head - flags
      if (flags === 0x10) {
        events.push(['ramEndOfSection'])
        return
      }
      if (flags === 0x04) {
        for (let left = offset; left > 0;) {
          const block: Block = { name: str8(), usedLengthBytes: u64() }
          if (pageSizes.has(block.name)) block.pageSizeBytes = u64()
          blocks.push(block)
          left -= block.usedLengthBytes
        }
        events.push(['ramBlocks', blocks])
        continue
      }
      if ((flags & 0x20) === 0) lastBlock = str8()
      if ((flags & 0x08) !== 0) events.push(['ramPage', lastBlock, offset, digest(take(4096))])
      else events.push(['ramZero', lastBlock, (u8(), offset)])
    }
  }

  function command(): void {
    const number = u16()
    const length = u16()
    const end = at + length
    if (number === 1) events.push(['openReturnPath'])
    else if (number === 2) events.push(['ping', u32()])
    else if (number === 3 && length === 0) events.push(['advise', undefined, undefined])
    else if (number === 3) events.push(['advise', u64(), u64()])
    else if (number === 6) {
      u8()
      const name = str8()
      u8()
      events.push(['ramDiscard', name, Array.from({ length: (end - at) / 8 }, u64)])
    } else if (number === 7) {
      const blobBytes = u32()
      events.push(['packaged', digest(bytes, at, at + blobBytes), at])
      take(blobBytes)
      seen.package = true
    } else if (number === 9) events.push(['resume'])
    else if (number === 10) events.push(['recvBitmap', str8()])
    else if (number === 11) events.push(['switchoverStart'])
    else throw new Error(`command ${number}`)
  }

  u32()
  events.push(['fileHeader', u32()])
  configuration()
  let hasRamEnded = false
  for (;;) {
    const type = u8()
    if (type === 0) {
      events.push(['endOfStream'])
      break
    }
    if (type === 4 && hasRamEnded) {
      at -= 1
      deviceTail()
      break
    }
    if (type === 8) {
      command()
      continue
    }
    const id = u32()
    if (type === 1) {
      events.push(['sectionStart', { id, idstr: str8(), instanceId: u32(), version: u32() }])
    } else events.push([type === 2 ? 'sectionPart' : 'sectionEnd', id])
    ram()
    u8()
    events.push(['footer', u32()])
    hasRamEnded = type === 3
  }
  if (!seen.package && at < bytes.length) {
    u8()
    events.push(['vmDescription', Buffer.from(take(u32())).toString()])
  }
  return events

  /**
   * Finds the end of a saved stream, backwards from the end of the file.
   */
  function deviceTail(): void {
    let end = bytes.length - 1
    for (let k = bytes.length - 6; k > at; k -= 1) {
      if (bytes[k] !== 0 || bytes[k + 1] !== 6) continue
      if (view.getUint32(k + 2) !== bytes.length - k - 6) continue
      end = k
      break
    }
    events.push(['deviceTail', digest(bytes, at, end), at], ['endOfStream'])
    at = end + 1
  }
}
