/** Lends 2 MiB pages to a suite if the host has too few and this user may add some. */
import { HostChanges, availableHugePages } from '../../src/testing/index.js'

/**
 * As root, raises vm.nr_hugepages for the suite that calls this, and lowers it by
 * as many after the suite, even if the run ends early. For other users it does
 * nothing: `requires(this, 'hugePages')` then skips.
 */
export function lendHugePages(count: number): void {
  let changes: HostChanges | undefined
  before('lend huge pages', () => {
    if (process.getuid?.() !== 0 || availableHugePages() >= count) return
    changes = new HostChanges()
    changes.lendHugePages(count)
  })
  after('take huge pages back', () => {
    changes?.undo()
  })
}
