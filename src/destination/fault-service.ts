/**
 * Handles page faults: reads their messages in batches, requests each missing page once, and
 * measures the time until it is placed. Runs on the worker that places pages. That worker never
 * touches guest memory itself.
 */
import { PostcopyError } from '../errors.js'
import { EVENT_STRIDE, FaultEvent, UffdEvent, type Userfaultfd } from '../kernel/index.js'
import { rowOf } from '../kernel/internal.js'
import type { Counters } from '../migration/index.js'
import { TARGET_PAGE_SIZE, hex } from '../units.js'
import type { DestinationBlock } from './block.js'
import type { FaultLog } from './fault-log.js'
import type { Placement } from './placement.js'

/** Room for threads that wait at the same time; doubles as needed. */
const INITIAL_WAITERS = 64

/** Fields of a waiter. */
const Waiter = rowOf('waiter', ['blockIndex', 'page', 'threadId', 'sinceMs'])

/** Requests one host page from the source. */
export type RequestPage = (target: DestinationBlock, offset: number) => void

export class FaultService {
  readonly #log: FaultLog
  readonly #uffd: Userfaultfd
  readonly #blocks: readonly DestinationBlock[]
  readonly #placement: Placement
  readonly #counters: Counters
  readonly #requestPage: RequestPage
  #stopWatching: (() => void) | undefined
  #waiters = new Float64Array(INITIAL_WAITERS * Waiter.stride)
  #waiting = 0

  constructor(
    uffd: Userfaultfd,
    blocks: readonly DestinationBlock[],
    placement: Placement,
    counters: Counters,
    log: FaultLog,
    requestPage: RequestPage,
  ) {
    this.#log = log
    this.#uffd = uffd
    this.#blocks = blocks
    this.#placement = placement
    this.#counters = counters
    this.#requestPage = requestPage
  }

  /** @param onError - called for a message that cannot be handled */
  start(onBatch: () => void, onError: (error: unknown) => void): void {
    this.#stopWatching = this.#uffd.watch((count) => {
      try {
        this.#handle(count)
        onBatch()
      } catch (error) {
        onError(error)
      }
    })
  }

  /**
   * Wakes all waiting threads, so that they fault again. Their pages are then requested again, also
   * those whose faults a lost worker had only read. Call it when requests can be sent.
   */
  restart(onBatch: () => void, onError: (error: unknown) => void): void {
    for (const { received, requested } of this.#blocks) requested.keep(received)
    this.start(onBatch, onError)
    for (const { block } of this.#blocks) {
      this.#uffd.wake(block.region.address, block.lengthBytes)
    }
  }

  /** Stops handling faults: threads that fault from now on stay parked. */
  stop(): void {
    this.#stopWatching?.()
    this.#stopWatching = undefined
  }

  /** Number of threads that wait for a page now. */
  get waiting(): number {
    return this.#waiting
  }

  /** Handles the pending messages at once, without a turn of the event loop. */
  drain(): void {
    if (this.#stopWatching === undefined) return
    const count = this.#uffd.read()
    if (count > 0) this.#handle(count)
  }

  /** Removes the waiters whose pages were placed; call it after placing. */
  settle(): void {
    if (this.#waiting === 0) return
    const time = performance.now()
    for (let index = this.#waiting - 1; index >= 0; index -= 1) {
      const at = index * Waiter.stride
      const target = this.#blocks[this.#waiters[at + Waiter.blockIndex] ?? -1]
      const page = this.#waiters[at + Waiter.page] ?? 0
      if (target?.received.test(page) !== true) continue
      const sinceMs = this.#waiters[at + Waiter.sinceMs] ?? time
      this.#log.end(this.#waiters[at + Waiter.threadId] ?? 0, sinceMs, time)
      this.#waiting -= 1
      const last = this.#waiting * Waiter.stride
      this.#waiters.copyWithin(at, last, last + Waiter.stride)
    }
  }

  #handle(count: number): void {
    const { events } = this.#uffd
    const time = performance.now()
    for (let index = 0; index < count; index += 1) {
      const at = index * EVENT_STRIDE
      if (events[at + FaultEvent.type] !== UffdEvent.PAGEFAULT) continue
      const address = events[at + FaultEvent.address] ?? 0
      this.#fault(address, events[at + FaultEvent.threadId] ?? 0, time)
    }
  }

  #fault(address: number, threadId: number, time: number): void {
    this.#counters.faults += 1
    const blockIndex = this.#blocks.findIndex(({ block }) => {
      const offset = address - block.region.address
      return offset >= 0 && offset < block.lengthBytes
    })
    const target = this.#blocks[blockIndex]
    if (target === undefined) {
      throw new PostcopyError(
        'ERR_FAULT_ADDRESS',
        `a fault at ${hex(address)} is outside all RAM blocks`,
      )
    }
    const { block, received, requested } = target
    const within = address - block.region.address
    const offset = within - (within % block.hostPageSize)
    const page = offset / TARGET_PAGE_SIZE
    if (received.all(page, page + block.hostPages)) {
      this.#counters.localFaults += 1
      this.#placement.resolveReceived(target, page)
      return
    }
    this.#wait(blockIndex, page, threadId, time)
    if (requested.test(page)) {
      this.#counters.duplicateFaults += 1
      return
    }
    requested.setRange(page, page + block.hostPages)
    this.#counters.requestedPages += 1
    this.#requestPage(target, offset)
  }

  #wait(blockIndex: number, page: number, threadId: number, time: number): void {
    const at = this.#waiting * Waiter.stride
    if (at === this.#waiters.length) {
      const wider = new Float64Array(this.#waiters.length * 2)
      wider.set(this.#waiters)
      this.#waiters = wider
    }
    this.#waiters[at + Waiter.blockIndex] = blockIndex
    this.#waiters[at + Waiter.page] = page
    this.#waiters[at + Waiter.threadId] = threadId
    this.#waiters[at + Waiter.sinceMs] = time
    this.#waiting += 1
    this.#log.begin(threadId, time)
  }
}
