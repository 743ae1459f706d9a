import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { compareDocuments, comparisonText } from '../../src/lab/comparison.js'
import { makeDocument, readDocument } from '../../src/lab/document.js'
import type { LabDocument } from '../../src/lab/document.js'
import { readHost } from '../../src/host/host.js'
import { reportPage } from '../../src/lab/report-page.js'
import type { Verdict } from '../../src/lab/verdict.js'
import { resultText } from '../../src/lab/text.js'
import { cleanups } from '../support/cleanup.js'
import { requires } from '../support/requires.js'
import { runFixtures } from './support.js'

describe('a report of the lab', () => {
  let document: LabDocument
  let folder: string

  before(async () => {
    const rows = await runFixtures(['agrees', 'differs', 'throws', 'gives-up', 'plots'])
    document = makeDocument(readHost().fingerprint, rows, new Date())
  })

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'postcopy-test-'))
    cleanups.add(() => rmSync(folder, { recursive: true, force: true }))
  })

  it('counts the verdicts and shows every experiment as text', () => {
    assert.deepEqual(document.counts, {
      'as expected': 2,
      differs: 1,
      'not possible here': 1,
      broken: 1,
    })
    const text = resultText(document)
    for (const { id } of document.rows) assert.ok(text.includes(id), id)
    assert.match(text, /first: p50 2 µs, p99 2\.98 µs \(2000\)/)
  })

  const script = `<script>alert("1", '2')</script>`
  /** A tag, or the end of an attribute. */
  const raw = /<script|alert\("|'2'/
  const read = (change: (copy: LabDocument) => object): Promise<LabDocument> => {
    const path = join(folder, 'changed.json')
    writeFileSync(path, JSON.stringify(change(structuredClone(document))))
    return readDocument(path)
  }

  it('is refused for a document with other fields than those of a run', async () => {
    const bad: readonly ((copy: LabDocument) => object)[] = [
      (copy) => ({ ...copy, durationMs: script }),
      (copy) => ({ ...copy, startedAt: 1 }),
      (copy) => ({ ...copy, rows: [null] }),
      (copy) => ({ ...copy, rows: copy.rows.map((row) => ({ ...row, verdict: script })) }),
      (copy) => ({ ...copy, rows: copy.rows.map((row) => ({ ...row, mirrors: 'x' })) }),
      (copy) => ({ ...copy, rows: copy.rows.map((row) => ({ ...row, findings: [1] })) }),
      (copy) => ({ ...copy, rows: copy.rows.map((row) => ({ ...row, plots: [{ kind: 'x' }] })) }),
    ]
    for (const change of bad) await assert.rejects(read(change), { code: 'ERR_LAB_DOCUMENT' })
    assert.deepEqual(await read((copy) => copy), JSON.parse(JSON.stringify(document)))
  })

  it('counts the rows itself and escapes every text', async () => {
    const hostile = await read((copy) => ({
      ...copy,
      startedAt: script,
      counts: { 'as expected': script },
      fingerprint: { ...copy.fingerprint, kernel: script, [script]: script },
      rows: copy.rows.map((row) => ({
        ...row,
        ...{ id: script, question: script, method: script, source: script, reason: script },
        ...{ notes: [script], mirrors: [script] },
        findings: [{ name: script, expected: script, seen: script, agrees: true }],
      })),
    }))
    assert.deepEqual(hostile.counts, document.counts)
    assert.doesNotMatch(reportPage(hostile), raw)
    // A document that readDocument has not checked.
    const unread = {
      ...hostile,
      counts: { ...hostile.counts, broken: script as unknown as number },
      rows: hostile.rows.map((row) => ({ ...row, verdict: script as unknown as Verdict })),
    }
    assert.doesNotMatch(reportPage(unread), raw)
  })

  it('does not use the network', () => {
    const page = reportPage(document)
    assert.doesNotMatch(page, /<script|<link|src=|@import|url\(http/)
  })

  it('shows its plots in a real browser', function () {
    requires(this, 'chromium')
    const path = join(folder, 'lab.html')
    // The page reports its own layout, because only the browser computes it.
    const probe = `<script>document.title = JSON.stringify([...document.querySelectorAll('figure svg')]
      .map((svg) => [svg.getBoundingClientRect().width > 400, svg.querySelectorAll('path').length > 3]))</script>`
    writeFileSync(path, reportPage(document).replace('</body>', `${probe}</body>`))
    const shot = join(folder, 'lab.png')
    const dom = execFileSync('chromium', [...chromiumFlags(folder), '--dump-dom', path], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 40_000,
    })
    const title = /<title>(.*?)<\/title>/.exec(dom)?.[1] ?? ''
    assert.deepEqual(JSON.parse(title.replaceAll('&quot;', '"')), [
      [true, true],
      [true, true],
      [true, true],
    ])
    for (const { id } of document.rows) assert.ok(dom.includes(`id="${id}"`), id)
    execFileSync('chromium', [...chromiumFlags(folder), `--screenshot=${shot}`, path], {
      stdio: 'ignore',
      timeout: 40_000,
    })
    assert.ok(statSync(shot).size > 10_000)
  })

  it('is compared with another one', () => {
    const other = JSON.parse(JSON.stringify(document)) as LabDocument
    other.fingerprint.kernel = '5.4.0'
    const row = other.rows[1]
    if (row?.findings[0] === undefined) throw new Error('no finding')
    row.verdict = 'as expected'
    row.findings[0].seen = '42'
    other.rows = other.rows.filter(({ id }) => id !== 'agrees')
    const comparison = compareDocuments(document, other)
    assert.deepEqual(comparison.differences, [
      {
        id: 'differs',
        a: 'differs',
        b: 'as expected',
        facts: [{ name: 'answer', a: '41', b: '42' }],
      },
    ])
    assert.deepEqual(comparison.onlyInA, ['agrees'])
    assert.equal(comparison.same, 3)
    assert.equal(comparison.hosts.find(({ name }) => name === 'kernel')?.b, '5.4.0')
    assert.ok(comparison.ratios.every(({ ratio }) => ratio === 1))
    assert.match(comparisonText(comparison), /experiments that differ: 1, that agree: 3/)
  })

  it('refuses other files, and names the command that makes a document', async () => {
    const path = join(folder, 'x.json')
    for (const content of ['', '{}', 'null', '{"format":"postcopy-lab","version":9,"rows":[]}']) {
      writeFileSync(path, content)
      await assert.rejects(readDocument(path), {
        code: 'ERR_LAB_DOCUMENT',
        message: /lab run --json/,
      })
    }
  })
})

function chromiumFlags(folder: string): string[] {
  return [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-background-networking',
    '--no-first-run',
    '--disable-component-update',
    '--disable-sync',
    `--user-data-dir=${join(folder, 'profile')}`,
  ]
}
