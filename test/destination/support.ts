import assert from 'node:assert/strict'
import { type DestinationBlock, attachBlocks } from '../../src/destination/block.js'
import { EVENT_STRIDE, UffdEvent, type Userfaultfd } from '../../src/kernel/index.js'
import { PageBitmap } from '../../src/ram/page-bitmap.js'
import { ReturnPathDecoder } from '../../src/stream/index.js'
import { cleanups } from '../support/cleanup.js'
import { bytesAt, makeRegion } from '../support/memory-kinds.js'

export const PAGE = 4096

/**
 * A RAM block of `pages` target pages at the begin of a region that is a page longer. No page was
 * received.
 */
export function destinationBlock(pages: number, hostPages = 1, name = 'ram'): DestinationBlock {
  const region = makeRegion('anon', pages + 1)
  const bits = (): Uint8Array => new PageBitmap(pages).bytes
  const [target] = attachBlocks([
    {
      name,
      regionId: region.id,
      lengthBytes: pages * PAGE,
      pageSizeBytes: hostPages * PAGE,
      received: bits(),
      zeroed: bits(),
      requested: bits(),
      precopied: bits(),
    },
  ])
  assert(target !== undefined)
  cleanups.add(() => target.block.close())
  return target
}

/** The same, and all its pages were discarded. */
export function discardedBlock(...args: Parameters<typeof destinationBlock>): DestinationBlock {
  const target = destinationBlock(...args)
  target.discarded.setAll()
  return target
}

export interface FaultMessage {
  readonly address: number
  readonly threadId: number
  /** Default: a page fault. */
  readonly type?: number
}

/** A fault of a thread on a page of the block. */
export function faultAt({ block }: DestinationBlock, page: number, threadId = 1): FaultMessage {
  return { address: Number(block.region.address) + page * PAGE, threadId }
}

/** The next read of the userfaultfd returns these messages; later ones return none. */
export function injectFaults(uffd: Userfaultfd, ...messages: readonly FaultMessage[]): void {
  let pending = messages
  uffd.read = () => {
    const { length } = pending
    for (const [index, { address, threadId, type = UffdEvent.PAGEFAULT }] of pending.entries()) {
      uffd.events.set([type, 0, address, threadId], index * EVENT_STRIDE)
    }
    pending = []
    return length
  }
}

interface NamedBlock {
  readonly block: Pick<DestinationBlock['block'], 'name' | 'lengthBytes' | 'hostPageSize'>
}

/**
 * Decodes a return path: `ram:3` is a request for one target page, `ram:4+8` one for eight.
 */
export function returnPathMessages(bytes: Uint8Array, targets: readonly NamedBlock[]): string[] {
  const messages: string[] = []
  const add = (message: string): void => void messages.push(message)
  const decoder = new ReturnPathDecoder(
    {
      shut: (status) => add(`SHUT ${status}`),
      pong: (value) => add(`PONG ${value}`),
      requestPages: (name, start, lengthBytes) => {
        const pages = lengthBytes / PAGE
        add(`${name}:${start / PAGE}${pages === 1 ? '' : `+${pages}`}`)
      },
      recvBitmap: (name) => add(`bitmap of ${name}`),
      resumeAck: () => add('RESUME_ACK'),
    },
    targets.map(({ block }) => ({
      name: block.name,
      usedLengthBytes: block.lengthBytes,
      pageSizeBytes: block.hostPageSize,
    })),
  )
  assert.equal(decoder.write(bytes), bytes.length, 'an incomplete message')
  return messages
}

export const page = (fill: number): Uint8Array => new Uint8Array(PAGE).fill(fill)

/** The first byte of each page. */
export function fillsOf({ block }: DestinationBlock): number[] {
  return Array.from(
    { length: block.pageCount },
    (_, at) => bytesAt(block.region, at * PAGE, 1)[0] ?? -1,
  )
}
