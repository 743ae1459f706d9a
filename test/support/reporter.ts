import Mocha from 'mocha'
import { skipped } from './requires.js'

/** The spec reporter, followed by the skipped tests with reasons, and a machine-readable line. */
export default class Reporter extends Mocha.reporters.Spec {
  constructor(runner: Mocha.Runner, options?: Mocha.MochaOptions) {
    super(runner, options)
    runner.once(Mocha.Runner.constants.EVENT_RUN_END, () => {
      const reasons = new Map<string, string[]>()
      for (const { title, reason } of skipped) {
        reasons.set(reason, [...(reasons.get(reason) ?? []), title])
      }
      for (const [reason, titles] of reasons) {
        console.log(`skipped: ${reason}`)
        for (const title of titles) console.log(`  - ${title}`)
      }
      const { passes, failures, pending } = this.stats
      console.log(`${passes} passed, ${failures} failed, ${pending} skipped`)
    })
  }
}
