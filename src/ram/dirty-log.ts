/**
 * Finds the pages that a running guest writes, by userfaultfd write protection.
 *
 * `async` (Linux 6.7): the kernel itself lifts the protection on the first write. PAGEMAP_SCAN
 * reports the written pages later, so there is no message and no blocked writer.
 * `sync` (Linux 5.7): the first write to a page blocks its thread until our event loop has noted
 * the page, which takes tens of microseconds a page. With a user-mode-only userfaultfd, a system
 * call that writes to guest memory fails with EFAULT instead of waiting.
 */
import { EVENT_STRIDE, FaultEvent, scanDirty, Userfaultfd } from '../kernel/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import { PageBitmap } from './page-bitmap.js'
import type { RamBlock } from './ram-block.js'
import { armUntouched } from './untouched-pages.js'

/** A RAM block and its dirty pages: those whose current content the destination does not have. */
export interface TrackedBlock {
  readonly block: RamBlock
  readonly dirty: PageBitmap
}

/** If its thread ends without {@link DirtyLog.close}, the addon ends the protection. */
export interface DirtyLog {
  readonly method: 'async' | 'sync'
  /**
   * The pages of a block that were zero when the log was opened, because they had never been
   * written, and were not written until the last {@link sync}. Undefined if that is not known.
   */
  untouched(block: RamBlock): PageBitmap | undefined
  /** Marks the pages written since the last call; returns how many were not marked before. */
  sync(): number
  /** Ends the protection; writes that were not synced are lost. */
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
  readonly #untouched = new Map<RamBlock, PageBitmap>()

  constructor(uffd: Userfaultfd, blocks: readonly TrackedBlock[]) {
    this.#uffd = uffd
    this.#blocks = blocks
    for (const { block } of blocks) {
      const untouched = armUntouched(block)
      if (untouched.next() !== -1) this.#untouched.set(block, untouched)
    }
    // Before the first arming every page counts as written; the caller starts with all pages dirty.
    this.sync()
  }

  untouched(block: RamBlock): PageBitmap | undefined {
    return this.#untouched.get(block)
  }

  sync(): number {
    return this.#blocks.reduce((sum, tracked) => sum + this.#sync(tracked), 0)
  }

  #sync({ block, dirty }: TrackedBlock): number {
    const { region, lengthBytes, pageCount } = block
    const untouched = this.#untouched.get(block)
    if (untouched === undefined) return scanDirty(region, dirty.bytes, { arm: true, lengthBytes })
    const written = new PageBitmap(pageCount)
    scanDirty(region, written.bytes, { arm: true, lengthBytes })
    untouched.remove(written)
    const before = dirty.count()
    dirty.add(written)
    return dirty.count() - before
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
      // Without WP_UNPOPULATED, a page that is not present cannot be protected.
      if (!uffd.features.has('WP_UNPOPULATED'))
        block.region.madvise('POPULATE_READ', 0, block.lengthBytes)
      uffd.writeProtect(block.region.address, block.lengthBytes, { enable: true })
    }
  }

  untouched(): undefined {
    // Looking for such pages and protecting them is not one step here.
    return undefined
  }

  #noteWrites(count: number): void {
    for (let index = 0; index < count; index += 1) {
      const address = this.#uffd.events[index * EVENT_STRIDE + FaultEvent.address] ?? 0
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
        // Protect the pages before they are read for sending: a later write then is a new fault.
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

/** Wakes blocked writers, even if another handle keeps the descriptor open. */
function release(uffd: Userfaultfd, blocks: readonly TrackedBlock[]): void {
  for (const { block } of blocks) uffd.unregister(block.region.address, block.lengthBytes)
  uffd.close()
}
