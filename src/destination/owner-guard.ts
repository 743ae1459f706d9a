/**
 * The main thread of the process that owns a destination is the only one that can recover it. Where
 * that thread waits for a page and no worker can place it, the process has to end.
 *
 * The text is set before a worker can be lost without running JavaScript again, and so for each stage.
 */
import { FaultGuard, type GuardedRange, type Userfaultfd } from '../kernel/index.js'
import { workerLost } from '../migration/index.js'
import { printable } from '../printable.js'
import type { DestinationBlock } from './block.js'

/** Places pages that were received as zeros, too, while no worker serves faults. */
export class OwnerGuard {
  readonly #guard: FaultGuard
  readonly #blocks: readonly DestinationBlock[]
  #hasBegun = false

  /** @param threadId - of the owner, where that is the main thread */
  constructor(
    uffd: Userfaultfd,
    threadId: number | undefined,
    blocks: readonly DestinationBlock[],
  ) {
    this.#blocks = blocks
    this.#guard = new FaultGuard(uffd, threadId ?? 0, lastWords(blocks, lost(), WHILE_LOADING))
  }

  /** The devices are loaded. A migration that has paused meanwhile keeps its cause. */
  guestRunning(): void {
    if (this.#hasBegun) return
    this.#guard.describe(lastWords(this.#blocks, lost(), AFTER_LOADING))
  }

  /** The migration is paused: from now on, and until it is recovered, no page arrives. */
  begin(cause: unknown): void {
    this.#hasBegun = true
    this.#guard.describe(lastWords(this.#blocks, cause, AFTER_LOADING))
    this.#guard.begin()
  }

  /** No page is missing any more, or what is read is not used. */
  stop(): void {
    this.#guard.stop()
  }
}

/** `cont -f` is of postcopy's monitor only, and a QEMU before 10.2 refuses `cont`, too. */
const TAKE_BACK =
  'at a source of postcopy, cont -f in its monitor (Source.takeBack()) starts it as it was when it was stopped there'

/** A vCPU may have begun to run, where the worker was lost just then. */
const WHILE_LOADING = `The guest does not run here: ${TAKE_BACK}`

/** True after `Destination.close()`, too. */
const AFTER_LOADING =
  `No other thread can recover the migration. The guest does not run here any more: ${TAKE_BACK}. ` +
  'Do not touch guest RAM on the main thread after the devices are loaded and before the migration is complete'

/** The cause where the worker ends without running JavaScript again. */
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
