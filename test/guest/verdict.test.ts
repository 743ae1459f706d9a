/** The check of guest RAM must detect each kind of wrong page. */
import assert from 'node:assert/strict'
import { formatFinding, type Guest } from '../../src/guest/index.js'
import { TARGET_PAGE_SIZE } from '../../src/units.js'
import { eventually, makeGuest, readPage, regionOf, runFor, writePage } from './support.js'

const PAGE = 9
const OTHER = 40
const AT = PAGE * TARGET_PAGE_SIZE

/** A guest whose pages have all been written several times, and an earlier copy of one page. */
async function writtenGuest(): Promise<{ guest: Guest; before: Uint8Array }> {
  const guest = await makeGuest({ workload: 'sweep:writes=100' })
  const before = readPage(guest, PAGE)
  await runFor(guest, 2000)
  return { guest, before }
}

function ledgerEntry(guest: Guest, page: number): number {
  const bytes = new Uint8Array(4)
  regionOf(guest, 'ledger').read(page * 4, bytes)
  return new DataView(bytes.buffer).getUint32(0, true)
}

/** Overwrites the version in a page's ledger entry. */
function setLedgerEntry(guest: Guest, page: number, version: number): void {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, version, true)
  regionOf(guest, 'ledger').write(page * 4, bytes)
}

async function soleFinding(guest: Guest) {
  const report = await guest.verify()
  assert.equal(report.verified, false)
  assert.equal(report.findings.length, 1)
  const [finding] = report.findings
  assert(finding !== undefined)
  assert.equal(report.counts[finding.verdict], 1)
  return finding
}

describe('verify', () => {
  it('checks every page and finds no error in a guest that ran', async () => {
    const { guest } = await writtenGuest()
    const report = await guest.verify()
    assert.deepEqual(report.findings, [])
    assert.equal(report.verified, true)
    assert.equal(report.pages, 256)
  })

  it('detects a lost page', async () => {
    const { guest } = await writtenGuest()
    writePage(guest, PAGE, new Uint8Array(TARGET_PAGE_SIZE))
    const expected = ledgerEntry(guest, PAGE)
    const finding = await soleFinding(guest)
    assert.deepEqual(finding, {
      verdict: 'lost',
      block: 'ram',
      offsetBytes: AT,
      lengthBytes: 4096,
      got: 0,
      expected,
    })
    assert.match(formatFinding(finding), /^ram\+0x9000: lost page/)
  })

  it('detects a stale page and reports both versions', async () => {
    const { guest, before } = await writtenGuest()
    writePage(guest, PAGE, before)
    const expected = ledgerEntry(guest, PAGE)
    assert(expected > 1)
    assert.deepEqual(await soleFinding(guest), {
      verdict: 'stale',
      block: 'ram',
      offsetBytes: AT,
      lengthBytes: 4096,
      got: 1,
      expected,
    })
  })

  it('detects two swapped pages and reports the page whose content each one has', async () => {
    const { guest } = await writtenGuest()
    const [page, other] = [readPage(guest, PAGE), readPage(guest, OTHER)]
    writePage(guest, PAGE, other)
    writePage(guest, OTHER, page)
    const { findings, counts } = await guest.verify()
    assert.equal(counts.misplaced, 2)
    const places = findings.map(({ offsetBytes, got, expected }) => [offsetBytes, got, expected])
    assert.deepEqual(places, [
      [AT, OTHER, PAGE],
      [OTHER * TARGET_PAGE_SIZE, PAGE, OTHER],
    ])
  })

  it('detects content in pages that were never written', async () => {
    const guest = await makeGuest({ workload: 'idle:fill=0' })
    const donor = await makeGuest()
    writePage(guest, PAGE, readPage(donor, OTHER))
    const finding = await soleFinding(guest)
    assert.deepEqual([finding.verdict, finding.got, finding.expected], ['misplaced', OTHER, PAGE])
  })

  for (const [what, from, to] of [
    ['the end', 2048, 4096],
    ['the beginning', 0, 64],
    ['one line in the middle', 640, 704],
  ] as const) {
    it(`detects a page torn at ${what}, and reports the offset`, async () => {
      const { guest, before } = await writtenGuest()
      const page = readPage(guest, PAGE)
      page.set(before.subarray(from, to), from)
      writePage(guest, PAGE, page)
      const finding = await soleFinding(guest)
      const { verdict, offsetBytes, lengthBytes, got } = finding
      assert.deepEqual([verdict, offsetBytes, lengthBytes, got], ['torn', AT + from, 64, 1])
    })
  }

  it('reports lines that are still zero as torn', async () => {
    const { guest } = await writtenGuest()
    const page = readPage(guest, PAGE).fill(0, 0, 128)
    writePage(guest, PAGE, page)
    const { verdict, offsetBytes, got } = await soleFinding(guest)
    assert.deepEqual([verdict, offsetBytes, got], ['torn', AT, 0])
  })

  it('detects every flipped bit, with the offset of its byte', async () => {
    const { guest } = await writtenGuest()
    const good = readPage(guest, PAGE)
    for (const at of [0, 1, 8, 16, 20, 24, 31, 32, 63, 64, 72, 2001, 4095]) {
      const page = new Uint8Array(good)
      const expected = good[at] ?? 0
      page[at] = expected ^ 0x10
      writePage(guest, PAGE, page)
      assert.deepEqual(await soleFinding(guest), {
        verdict: 'corrupt',
        block: 'ram',
        offsetBytes: AT + at,
        lengthBytes: 1,
        got: expected ^ 0x10,
        expected,
      })
    }
  })

  it('detects a ledger entry that is older than its page', async () => {
    const { guest } = await writtenGuest()
    const version = ledgerEntry(guest, PAGE)
    setLedgerEntry(guest, PAGE, version - 1)
    const { findings, counts } = await guest.verify()
    assert.equal(counts.stale, 2) // the entry, and the sum of the vCPU's entries
    const [entry] = findings
    assert.deepEqual(entry, {
      verdict: 'stale',
      block: 'ledger',
      offsetBytes: PAGE * 4,
      lengthBytes: 4,
      got: version - 1,
      expected: version,
    })
  })

  it('detects a page that is old together with its ledger entry', async () => {
    const { guest, before } = await writtenGuest()
    const version = ledgerEntry(guest, PAGE)
    writePage(guest, PAGE, before)
    setLedgerEntry(guest, PAGE, 1)
    const finding = await soleFinding(guest)
    const { verdict, block, offsetBytes, lengthBytes, got, expected } = finding
    assert.deepEqual([verdict, block, offsetBytes, lengthBytes], ['stale', 'ledger', 0, 244 * 4])
    assert.equal(expected - got, version - 1)
  })

  it('detects a ledger entry that belongs to no page of a vCPU', async () => {
    const { guest } = await writtenGuest()
    setLedgerEntry(guest, 250, 1)
    const { verdict, block, offsetBytes } = await soleFinding(guest)
    assert.deepEqual([verdict, block, offsetBytes], ['corrupt', 'ledger', 1000])
  })

  it('detects lost and corrupt pages of the devices', async () => {
    const { guest } = await writtenGuest()
    for (let page = 244; page < 256; page += 1) {
      const good = readPage(guest, page)
      writePage(guest, page, new Uint8Array(TARGET_PAGE_SIZE))
      const lost = await soleFinding(guest)
      assert.deepEqual([lost.verdict, lost.offsetBytes], ['lost', page * TARGET_PAGE_SIZE])
      const flipped = new Uint8Array(good)
      flipped[4000] = (good[4000] ?? 0) ^ 1
      writePage(guest, page, flipped)
      assert.equal((await soleFinding(guest)).verdict, 'corrupt')
      writePage(guest, page, good)
    }
    assert.equal((await guest.verify()).verified, true)
  })

  it('counts findings that it does not list', async () => {
    const { guest } = await writtenGuest()
    for (let page = 0; page < 100; page += 1) {
      writePage(guest, page, new Uint8Array(TARGET_PAGE_SIZE))
    }
    const { counts, findings } = await guest.verify()
    assert.equal(counts.lost, 100)
    assert.equal(findings.length, 64)
  })
})

describe('a running vCPU', () => {
  for (const pattern of ['sweep', 'random', 'zipf', 'chase']) {
    it(`that runs ${pattern} stops at the first page that is wrong`, async () => {
      const guest = await makeGuest({ workload: `${pattern}:writes=50,hot=64K` })
      await runFor(guest, 500)
      const page = readPage(guest, PAGE)
      page[77] = (page[77] ?? 0) ^ 0x80
      writePage(guest, PAGE, page)
      guest.start()
      await eventually('a failed check', () => guest.vcpuStats()[0]?.activity === 'failed')
      await guest.stop()
      const report = await guest.verify()
      assert.equal(report.verified, false)
      assert.equal(report.failedChecks, 1)
      // Found twice, by the vCPU and by the scan, because the page was not overwritten.
      const found = report.findings.map(({ verdict, offsetBytes }) => [verdict, offsetBytes])
      assert.deepEqual(found, [
        ['corrupt', AT + 77],
        ['corrupt', AT + 77],
      ])
    })
  }

  it('keeps its failure after a migration', async () => {
    const guest = await makeGuest({ workload: 'sweep:writes=50' })
    const page = readPage(guest, PAGE)
    writePage(guest, PAGE, new Uint8Array(TARGET_PAGE_SIZE))
    guest.start()
    await eventually('a failed check', () => guest.vcpuStats()[0]?.failedChecks === 1)
    await guest.stop()
    writePage(guest, PAGE, page)
    const report = await guest.verify()
    assert.deepEqual(report.counts, { lost: 0, misplaced: 0, stale: 0, torn: 0, corrupt: 0 })
    assert.equal(report.verified, false)
  })
})
