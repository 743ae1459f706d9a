import { writeFileSync } from 'node:fs'
import Mocha from 'mocha'

/**
 * The spec reporter, which also writes to the file `POSTCOPY_RESULTS` what `scripts/test.mjs` adds up
 * and may run again.
 */
export default class Reporter extends Mocha.reporters.Spec {
  constructor(runner: Mocha.Runner, options?: Mocha.MochaOptions) {
    super(runner, options)
    const failures: { file: string; title: string; output: string }[] = []
    runner.on(Mocha.Runner.constants.EVENT_TEST_FAIL, (test, error: Error) => {
      const output = error.stack ?? error.message
      failures.push({ file: test.file ?? '', title: test.fullTitle(), output })
    })
    runner.once(Mocha.Runner.constants.EVENT_RUN_END, () => {
      const file = process.env['POSTCOPY_RESULTS']
      const { passes, pending } = this.stats
      if (file !== undefined) writeFileSync(file, JSON.stringify({ passes, pending, failures }))
    })
  }
}
