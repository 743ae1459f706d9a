/**
 * Only the main thread of the process that owns a destination can recover it. If that thread waits
 * for a page that no worker can place, the process has to end.
 *
 * The message is set in advance, again at each stage, because a worker may be lost without running
 * JavaScript again.
 */
import { FaultGuard, type GuardedRange, type Userfaultfd } from '../kernel/index.js'
import { workerLost } from '../migration/index.js'
import { printable } from '../printable.js'
import type { DestinationBlock } from './block.js'

/** While no worker handles faults, the guard also places pages that were received as zeros. */
export class OwnerGuard {
  readonly #guard: FaultGuard
  readonly #blocks: readonly DestinationBlock[]
  #hasBegun = false

  /** @param threadId - of the owner, if that is the main thread */
  constructor(
    uffd: Userfaultfd,
    threadId: number | undefined,
    blocks: readonly DestinationBlock[],
  ) {
    this.#blocks = blocks
    this.#guard = new FaultGuard(uffd, threadId ?? 0, lastWords(blocks, lost(), WHILE_LOADING))
  }

  /** Call when the devices are loaded. A migration that has paused meanwhile keeps its cause. */
  guestRunning(): void {
    if (this.#hasBegun) return
    this.#guard.describe(lastWords(this.#blocks, lost(), AFTER_LOADING))
  }

  /** Call when the migration is paused: no page arrives until it is recovered. */
  begin(cause: unknown): void {
    this.#hasBegun = true
    this.#guard.describe(lastWords(this.#blocks, cause, AFTER_LOADING))
    this.#guard.begin()
  }

  /** Call when no page is missing any more, or the memory is not used any more. */
  stop(): void {
    this.#guard.stop()
  }
}

/** `cont -f` exists only in postcopy's monitor. A QEMU before 10.2 rejects `cont`, too. */
const TAKE_BACK =
  'if the source is postcopy, cont -f in its monitor (Source.takeBack()) resumes the guest from the state in which it was stopped'

/** Not exact if the worker is lost right after a vCPU has begun to run. */
const WHILE_LOADING = `The guest does not run here: ${TAKE_BACK}`

/** Also true after `Destination.close()`. */
const AFTER_LOADING =
  `No other thread can recover the migration. The guest does not run here any more: ${TAKE_BACK}. ` +
  'Do not touch guest RAM on the main thread after the devices are loaded and before the migration is complete'

/** The cause if the worker ends without running JavaScript again. */
function lost(): Error {
  return workerLost('destination', undefined)
}

function lastWords(
  blocks: readonly DestinationBlock[],
  error: unknown,
  advice: string,
): GuardedRange[] {
  const cause = error instanceof Error ? error.message : String(error)
  return blocks.map(({ block: { name, region, lengthBytes, hostPageSize }, received, zeroed }) => ({
    address: region.address,
    lengthBytes,
    pageSizeBytes: hostPageSize,
    received: received.bytes,
    zeroed: zeroed.bytes,
    before: 'postcopy: the process ends: its main thread waits for the page at offset ',
    after: ` of RAM block ${JSON.stringify(name)}, which cannot arrive (${printable(cause)}). ${advice}\n`,
  }))
}
