/**
 * The lab's catalogue as a conformance suite: this kernel behaves as the package requires.
 *
 * Runs alone: experiments change the host, and measure.
 */
import assert from 'node:assert/strict'
import { loadCatalogue } from '../../src/lab/catalogue.js'
import type { LabDocument } from '../../src/lab/document.js'
import { runExperiments } from '../../src/lab/runner.js'
import { runAsUser } from '../../src/testing/index.js'
import { requires } from '../support/requires.js'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const main = join(dirname(fileURLToPath(import.meta.url)), '../../bundle/cli/main.js')
/** These take long, and their verdicts depend on the load of the machine. */
const measuring = ['cost', 'latency', 'scaling']

describe('the whole lab', () => {
  it('ends in a defined verdict for every experiment, none of them broken', async function () {
    this.timeout(120_000)
    const catalogue = await loadCatalogue()
    const rows = await runExperiments(
      catalogue.filter(({ tags }) => !tags.some((tag) => measuring.includes(tag))),
    )
    const broken = rows.filter(({ verdict }) => verdict === 'broken')
    assert.deepEqual(
      broken.map(({ id, reason }) => `${id}: ${reason ?? ''}`),
      [],
    )
    assert.ok(rows.some(({ verdict }) => verdict === 'as expected'))
  })

  it('does so for a user without rights, with the missing need', async function () {
    requires(this, 'root', 'setpriv', 'otherUsers')
    this.timeout(120_000)
    // Some of each area; all of them have run above.
    const words = ['opening', 'fill', 'hugetlb', 'fork', 'events', 'minor']
    const { status, stdout, stderr } = await runAsUser(
      process.execPath,
      [main, 'lab', 'run', '--json', '--quiet', ...words],
      { timeoutMs: 100_000 },
    )
    assert.equal(status, 0, stderr)
    const { rows, counts } = JSON.parse(stdout) as LabDocument
    assert.equal(counts.broken, 0)
    assert.ok(counts['as expected'] > 10)
    for (const { verdict, reason, id } of rows) {
      if (verdict === 'not possible here') assert.match(reason ?? '', /\w+/, id)
    }
    const matrix = rows.find(({ id }) => id === 'open-matrix')
    assert.equal(matrix?.reason, 'needs root')
  })
})
