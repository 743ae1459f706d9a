/**
 * Runs alone: experiments change the host.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { LabDocument } from '../../src/lab/document.js'
import { runInside } from '../cli/inside.js'

const here = dirname(fileURLToPath(import.meta.url))
const main = join(here, '../../bundle/cli/main.js')
const fixtures = join(here, 'fixtures.js')

function lab(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [main, 'lab', ...args], {
    encoding: 'utf8',
    timeout: 50_000,
  })
}

describe('postcopy lab', () => {
  it('lists the questions', async () => {
    const { status, stdout } = await runInside(['lab', 'list', 'fill'])
    assert.equal(status, 0)
    assert.match(stdout, /copy-partial/)
    assert.match(stdout, /\d+ experiments/)
  })

  it('shows expected and seen facts', () => {
    const { status, stdout, stderr } = lab('run', 'copy-partial')
    assert.equal(status, 0, stderr)
    assert.match(stderr, /✔ as expected +copy-partial/)
    assert.match(stdout, /run of 4: EAGAIN, 8192/)
    assert.match(stdout, /1 as expected, 0 differs, 0 not possible here, 0 broken/)
  })

  it('can treat a feature as absent', async () => {
    const words = ['--quiet', '--json', '--without', 'POISON', 'copy-over-markers']
    const { stdout } = await runInside(['lab', 'run', ...words])
    const [row] = (JSON.parse(stdout) as LabDocument).rows
    assert.equal(row?.verdict, 'not possible here')
    assert.equal(row.reason, 'needs UFFD_FEATURE_POISON (Linux 6.6)')
  })

  it('exits with status 1 only for broken experiments', () => {
    const { status, stdout } = lab('run', '--quiet', '--json', fixtures)
    assert.equal(status, 1)
    const { counts, rows } = JSON.parse(stdout) as LabDocument
    assert.ok(counts.broken > 5 && counts.differs > 1)
    // Each experiment has a row, whatever its result.
    assert.equal(
      rows.length,
      Object.values(counts).reduce((sum, count) => sum + count, 0),
    )
  })

  const refusals: readonly [string[], RegExp][] = [
    [['run', 'copy-parital'], /did you mean "copy-partial"\?.*\[ERR_LAB_UNKNOWN\]/],
    [['run', './none.js'], /no file .*\[ERR_LAB_UNKNOWN\]/],
    [['run', '--without', 'MOV'], /Did you mean MOVE\?.*\[ERR_USAGE\]/],
    [['compare', main, main], /lab run --json.*\[ERR_LAB_DOCUMENT\]/],
    [['report', '--input', '/none.json'], /\[ERR_LAB_DOCUMENT\]/],
    [['rnu'], /\[ERR_USAGE\]/],
  ]
  for (const [args, message] of refusals) {
    it(`refuses lab ${args.slice(0, 2).join(' ').replace(main, 'A')}`, async () => {
      const { status, stderr } = await runInside(['lab', ...args])
      assert.equal(status, 1)
      assert.match(stderr, message)
      assert.equal(stderr.trim().split('\n').length, 1)
    })
  }
})
