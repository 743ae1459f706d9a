/** Lends a suite 2 MiB pages where the host has too few and we may change that. */
import { HostChanges, availableHugePages } from '../../src/testing/index.js'

/**
 * Raises vm.nr_hugepages for the suite that calls this, as root, and takes as many back behind it,
 * also if the run ends early. For anybody else it does nothing: `requires(this, 'hugePages')` then
 * skips.
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
