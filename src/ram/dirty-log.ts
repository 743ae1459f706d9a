/**
 * Finds the pages that a running guest writes, by userfaultfd write protection.
 *
 * `async` (Linux 6.7): the kernel itself lifts the protection on the first write, and
 * PAGEMAP_SCAN tells later which pages that were: no message, no waiting writer.
 * `sync` (Linux 5.7): the first write to a page parks its thread until our event loop has noted
 * the page; tens of microseconds a page, and under user-mode-only a system call that writes to
 * guest memory fails with EFAULT instead of waiting.
 */
import { EVENT_STRIDE, scanDirty, Userfaultfd } from '../kernel/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import { PageBitmap } from './page-bitmap.js'
import type { RamBlock } from './ram-block.js'

/** A RAM block with the pages of it that the destination does not have as they are now. */
export interface TrackedBlock {
  readonly block: RamBlock
  readonly dirty: PageBitmap
}

/** If its thread ends without {@link DirtyLog.close}, the addon ends the protection. */
export interface DirtyLog {
  readonly method: 'async' | 'sync'
  /** Marks what was written since the last call; returns how many pages were not marked yet. */
  sync(): number
  /** Ends the protection; what was not synced is lost. */
  close(): void
}

/**
 * Begins to watch every write to the blocks.
 *
 * @param method - `auto` takes `async` where the kernel has it
 * @throws KernelError where userfaultfd cannot be opened or cannot protect this memory
 */
export function openDirtyLog(
  blocks: readonly TrackedBlock[],
  method: 'auto' | 'async' | 'sync' = 'auto',
): DirtyLog {
  const uffd = Userfaultfd.open({
    features: ['PAGEFAULT_FLAG_WP'],
    optional: [
      'WP_HUGETLBFS_SHMEM',
      'WP_UNPOPULATED',
      ...(method === 'sync' ? [] : (['WP_ASYNC'] as const)),
    ],
  })
  try {
    for (const { block } of blocks) {
      uffd.register(block.region.address, block.lengthBytes, { writeProtect: true })
    }
    return uffd.features.has('WP_ASYNC') ? new AsyncLog(uffd, blocks) : new SyncLog(uffd, blocks)
  } catch (error) {
    uffd.close()
    throw error
  }
}

class AsyncLog implements DirtyLog {
  readonly method = 'async'
  readonly #uffd: Userfaultfd
  readonly #blocks: readonly TrackedBlock[]

  constructor(uffd: Userfaultfd, blocks: readonly TrackedBlock[]) {
    this.#uffd = uffd
    this.#blocks = blocks
    // Before the first arming everything counts as written; that is what the caller starts with.
    this.sync()
  }

  sync(): number {
    return this.#blocks.reduce(
      (sum, { block: { region, lengthBytes }, dirty }) =>
        sum + scanDirty(region, dirty.bytes, { arm: true, lengthBytes }),
      0,
    )
  }

  close(): void {
    release(this.#uffd, this.#blocks)
  }
}

class SyncLog implements DirtyLog {
  readonly method = 'sync'
  readonly #uffd: Userfaultfd
  readonly #blocks: readonly (TrackedBlock & { readonly written: PageBitmap })[]
  readonly #stopWatching: () => void

  constructor(uffd: Userfaultfd, blocks: readonly TrackedBlock[]) {
    this.#uffd = uffd
    this.#blocks = blocks.map((tracked) => ({
      ...tracked,
      written: new PageBitmap(tracked.block.pageCount),
    }))
    this.#stopWatching = uffd.watch((count) => this.#noteWrites(count), { ref: false })
    for (const { block } of blocks) {
      // Without WP_UNPOPULATED a page that is not there cannot be protected.
      if (!uffd.features.has('WP_UNPOPULATED'))
        block.region.madvise('POPULATE_READ', 0, block.lengthBytes)
      uffd.writeProtect(block.region.address, block.lengthBytes, { enable: true })
    }
  }

  #noteWrites(count: number): void {
    for (let index = 0; index < count; index += 1) {
      const address = this.#uffd.events[index * EVENT_STRIDE + 2] ?? 0
      for (const { block, written } of this.#blocks) {
        const offset = address - block.region.address
        if (offset < 0 || offset >= block.lengthBytes) continue
        const start = offset - (offset % block.hostPageSize)
        const page = start / TARGET_PAGE_SIZE
        written.setRange(page, page + block.hostPages)
        this.#uffd.writeProtect(block.region.address + start, block.hostPageSize, { enable: false })
      }
    }
  }

  sync(): number {
    let count = this.#uffd.read()
    while (count > 0) {
      this.#noteWrites(count)
      count = this.#uffd.read()
    }
    let fresh = 0
    for (const { block, dirty, written } of this.#blocks) {
      for (const [start, end] of written.runs()) {
        // Protected before it is read for sending: a later write is a new message.
        const address = block.region.address + start * TARGET_PAGE_SIZE
        this.#uffd.writeProtect(address, (end - start) * TARGET_PAGE_SIZE, { enable: true })
        fresh += end - start - dirty.count(start, end)
        dirty.setRange(start, end)
        written.clearRange(start, end)
      }
    }
    return fresh
  }

  close(): void {
    this.#stopWatching()
    release(this.#uffd, this.#blocks)
  }
}

/** Wakes whoever is parked, also where another handle keeps the descriptor open. */
function release(uffd: Userfaultfd, blocks: readonly TrackedBlock[]): void {
  for (const { block } of blocks) uffd.unregister(block.region.address, block.lengthBytes)
  uffd.close()
}
