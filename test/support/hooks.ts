/** Root hooks: nothing a test started may outlive the run. */
import { cleanups } from './cleanup.js'

export const mochaHooks = {
  async afterEach(): Promise<void> {
    await cleanups.run()
  },
}
