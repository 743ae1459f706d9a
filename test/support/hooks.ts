/** Root hooks: nothing that a test started may outlive the run. */
import { writeSync } from 'node:fs'
import { cleanups } from './cleanup.js'

export const mochaHooks = {
  async afterEach(): Promise<void> {
    await cleanups.run()
  },
}

/** How long closed resources may take to end. */
const LAST_MS = 10_000

/** A thread that waits for a page would keep the run from ending, and would block `exit()` too. */
export function mochaGlobalTeardown(): void {
  setTimeout(() => {
    writeSync(
      2,
      `a thread, or one of [${process.getActiveResourcesInfo().join(', ')}], does not end\n`,
    )
    process.kill(process.pid, 'SIGKILL')
  }, LAST_MS).unref()
}
