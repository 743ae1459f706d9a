/**
 * The main thread of the process that owns a destination is the only one that can recover it. Where
 * that thread waits for a page and no worker can place it, the process has to end.
 */
import { FaultGuard, type GuardedRange, type Userfaultfd } from '../kernel/index.js'
import { workerLost } from '../migration/migration.js'
import { printable } from '../printable.js'
import type { DestinationBlock } from './block.js'

export class OwnerGuard {
  readonly #guard: FaultGuard
  readonly #blocks: readonly DestinationBlock[]

  /** @param threadId - of the owner */
  constructor(uffd: Userfaultfd, threadId: number, blocks: readonly DestinationBlock[]) {
    this.#blocks = blocks
    // For a worker that ends without running JavaScript again.
    this.#guard = new FaultGuard(
      uffd,
      threadId,
      lastWords(blocks, workerLost('destination', undefined)),
    )
  }

  /** The migration is paused: from now on, and until it is recovered, no page arrives. */
  begin(cause: unknown): void {
    this.#guard.describe(lastWords(this.#blocks, cause))
    this.#guard.begin()
  }

  /** No page is missing any more, or what is read is not used. */
  stop(): void {
    this.#guard.stop()
  }
}

function lastWords(blocks: readonly DestinationBlock[], error: unknown): GuardedRange[] {
  const cause = error instanceof Error ? error.message : String(error)
  return blocks.map(({ block: { name, region, lengthBytes } }) => ({
    address: region.address,
    lengthBytes,
    before: 'postcopy: the process ends: its main thread waits for the page at offset ',
    after:
      ` of RAM block ${JSON.stringify(name)}, which cannot arrive (${printable(cause)}), and only that ` +
      'thread could recover the migration. The guest does not run here any more; cont -f at the source ' +
      'starts it as it was when it was stopped there. Do not touch guest RAM on the main thread after ' +
      'the devices are loaded and before the migration is complete\n',
  }))
}
