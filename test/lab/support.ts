/** Runs fixtures by name. */
import { describeModule } from '../../src/lab/describe.js'
import { runExperiments } from '../../src/lab/runner.js'
import type { Row, RunOptions } from '../../src/lab/runner.js'

const fixtures = new URL('./fixtures.js', import.meta.url).href

export async function runFixtures(ids: readonly string[], options?: RunOptions): Promise<Row[]> {
  const all = await describeModule(fixtures)
  const chosen = ids.map((id) => {
    const found = all.find((each) => each.id === id)
    if (found === undefined) throw new Error(`no fixture ${id}`)
    return found
  })
  return runExperiments(chosen, options)
}

export async function runFixture(id: string, options?: RunOptions): Promise<Row> {
  const [row] = await runFixtures([id], options)
  if (row === undefined) throw new Error('no row')
  return row
}
