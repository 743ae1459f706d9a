/** Decodes and checks the messages of the destination. */
import { PeerError } from '../errors.js'
import { PageBitmap, type TrackedBlock } from '../ram/index.js'
import { ReturnPathDecoder } from '../stream/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import { type SourcePhaseMachine, takeMessage } from './phases.js'

/** What the messages do; `queuePages`, `keepBitmap` and `claim` are actions of the phases' table. */
export interface ReturnPathActions {
  pong(value: number): void
  /** A request for the whole host pages `[first, end)`, in target pages. */
  queuePages(tracked: TrackedBlock, first: number, end: number): void
  /** A received bitmap, in a recovery. */
  keepBitmap?: ((tracked: TrackedBlock, bitmap: PageBitmap) => void) | undefined
  /** The answer to RESUME, in a recovery. */
  claim?: (() => void) | undefined
  /** Called after each read. */
  changed(): void
}

export class ReturnPath {
  /** The status of the destination's SHUT message, 0 for success; undefined before it arrives. */
  shutStatus: number | undefined
  readonly #decoder: ReturnPathDecoder
  readonly #actions: ReturnPathActions

  constructor(
    blocks: readonly TrackedBlock[],
    phases: SourcePhaseMachine,
    actions: ReturnPathActions,
  ) {
    const byName = new Map(blocks.map((tracked) => [tracked.block.name, tracked]))
    const find = (name: string, what: string): TrackedBlock => {
      const tracked = byName.get(name)
      if (tracked !== undefined) return tracked
      throw new PeerError('ERR_PEER_BLOCK', `${what} for unknown RAM block "${name}"`)
    }
    this.#decoder = new ReturnPathDecoder(
      {
        shut: (status) => {
          this.shutStatus = status
        },
        pong: (value) => actions.pong(value),
        requestPages: (name, start, lengthBytes) => {
          const tracked = find(name, 'page request')
          const first = start / TARGET_PAGE_SIZE
          const end = (start + lengthBytes) / TARGET_PAGE_SIZE
          const queuePages = (): void => actions.queuePages(tracked, first, end)
          takeMessage(phases, 'REQ_PAGES', { queuePages })
        },
        recvBitmap: (name, bytes) => {
          const tracked = find(name, 'received bitmap')
          const bitmap = new PageBitmap(tracked.block.pageCount, bytes)
          const keepBitmap = (): void => actions.keepBitmap?.(tracked, bitmap)
          takeMessage(phases, 'RECV_BITMAP', { keepBitmap })
        },
        resumeAck: () => {
          takeMessage(phases, 'RESUME_ACK', { claim: () => actions.claim?.() })
        },
      },
      blocks.map(({ block }) => ({
        name: block.name,
        usedLengthBytes: block.lengthBytes,
        pageSizeBytes: block.hostPageSize,
      })),
    )
    this.#actions = actions
  }

  /** Takes the bytes of a channel. @throws StreamError, PeerError */
  consume(bytes: Uint8Array, start: number, end: number): number {
    if (this.shutStatus !== undefined) {
      throw new PeerError('ERR_PEER_PROTOCOL', 'the destination sent data after SHUT')
    }
    const taken = this.#decoder.write(bytes, start, end)
    this.#actions.changed()
    return taken
  }
}
