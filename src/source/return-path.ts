/** Decodes and checks the messages of the destination. */
import { PeerError } from '../errors.js'
import { PageBitmap, type TrackedBlock } from '../ram/index.js'
import { ReturnPathDecoder } from '../stream/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'

export interface ReturnPathEvents {
  pong(value: number): void
  /** A request for the whole host pages `[first, end)`, in target pages. */
  pagesRequested(tracked: TrackedBlock, first: number, end: number): void
  /** Called after each read. */
  changed(): void
  /** A received bitmap, in a recovery; otherwise it is rejected. */
  received?(tracked: TrackedBlock, bitmap: PageBitmap): void
  /** The answer to RESUME, in a recovery. */
  resumeAcknowledged?(): void
}

export class ReturnPath {
  /** The status of the destination's SHUT message, 0 for success; undefined before it arrives. */
  shutStatus: number | undefined
  readonly #decoder: ReturnPathDecoder
  readonly #events: ReturnPathEvents

  constructor(blocks: readonly TrackedBlock[], events: ReturnPathEvents) {
    const byName = new Map(blocks.map((tracked) => [tracked.block.name, tracked]))
    const find = (name: string, what: string): TrackedBlock => {
      const tracked = byName.get(name)
      if (tracked !== undefined) return tracked
      throw new PeerError('ERR_PEER_BLOCK', `${what} for unknown RAM block "${name}"`)
    }
    const onlyInRecovery = (what: string): never => {
      throw new PeerError('ERR_PEER_PROTOCOL', `the destination sent ${what} outside of a recovery`)
    }
    this.#decoder = new ReturnPathDecoder(
      {
        shut: (status) => {
          this.shutStatus = status
        },
        pong: (value) => events.pong(value),
        requestPages: (name, start, lengthBytes) => {
          const tracked = find(name, 'page request')
          const end = (start + lengthBytes) / TARGET_PAGE_SIZE
          events.pagesRequested(tracked, start / TARGET_PAGE_SIZE, end)
        },
        recvBitmap: (name, bytes) => {
          const tracked = find(name, 'received bitmap')
          if (events.received === undefined) onlyInRecovery('RECV_BITMAP')
          events.received?.(tracked, new PageBitmap(tracked.block.pageCount, bytes))
        },
        resumeAck: () => {
          if (events.resumeAcknowledged === undefined) onlyInRecovery('RESUME_ACK')
          events.resumeAcknowledged?.()
        },
      },
      blocks.map(({ block }) => ({
        name: block.name,
        usedLengthBytes: block.lengthBytes,
        pageSizeBytes: block.hostPageSize,
      })),
    )
    this.#events = events
  }

  /** Takes the bytes of a channel. @throws StreamError, PeerError */
  consume(bytes: Uint8Array, start: number, end: number): number {
    if (this.shutStatus !== undefined) {
      throw new PeerError('ERR_PEER_PROTOCOL', 'the destination sent data after SHUT')
    }
    const taken = this.#decoder.write(bytes, start, end)
    this.#events.changed()
    return taken
  }
}
