/** Root hooks: nothing that a test started may outlive the run. */
import { writeSync } from 'node:fs'
import { HostChanges } from '../../src/testing/index.js'
import { cleanups } from './cleanup.js'

/**
 * Huge pages for all processes of a run side by side, so that none of its tests changes their number.
 * In a run one after another each test lends what it needs.
 */
const SHARED_HUGE_PAGES = 512
let shared: HostChanges | undefined

export function mochaGlobalSetup(this: Mocha.Runner): void {
  if (process.env['POSTCOPY_SIDE_BY_SIDE'] === undefined || process.getuid?.() !== 0) return
  shared = new HostChanges()
  shared.lendHugePages(SHARED_HUGE_PAGES)
}

export const mochaHooks = {
  async afterEach(): Promise<void> {
    await cleanups.run()
  },
}

/** How long closed resources may take to end. */
const LAST_MS = 10_000

/** A thread that waits for a page would keep the run from ending, and would block `exit()` too. */
export function mochaGlobalTeardown(): void {
  shared?.undo()
  setTimeout(() => {
    writeSync(
      2,
      `a thread, or one of [${process.getActiveResourcesInfo().join(', ')}], does not end\n`,
    )
    process.kill(process.pid, 'SIGKILL')
  }, LAST_MS).unref()
}
