/**
 * Huge pages that another process of the same control group takes before, or after, the switch.
 *
 * Runs alone: it takes the huge pages of the host.
 */
import assert from 'node:assert/strict'
import { fileURLToPath } from 'node:url'
import { Guest } from '../../src/guest/index.js'
import { HostChanges, runConfined } from '../../src/testing/index.js'
import { cleanups } from '../support/cleanup.js'
import { lendHugePages } from '../support/huge-pages.js'
import { listenFor, migratePair, postcopy } from '../support/migration.js'
import { requires } from '../support/requires.js'
import { TestMachine } from '../support/test-machine.js'

const program = fileURLToPath(new URL('./huge-page-limit.js', import.meta.url))
const HUGE = 2 ** 21

interface Told {
  readonly error: string
  readonly states?: readonly string[]
  readonly isParked?: boolean
  readonly reading?: string
  readonly isSame?: boolean
  readonly running?: readonly boolean[]
}

/** Runs a scenario of huge-page-limit.ts in a control group that grants this many pages. */
async function inGroup(scenario: string, pages: number): Promise<Told> {
  const changes = new HostChanges()
  cleanups.add(() => {
    changes.undo()
  })
  const group = changes.controlGroup({ hugePageBytes: pages * HUGE })
  const end = await runConfined(process.execPath, [program, scenario], { group, timeoutMs: 60_000 })
  assert.deepEqual([end.signal, end.status], [null, 0], `${end.stdout}${end.stderr}`)
  return JSON.parse(end.stdout) as Told
}

const shortage = /^ENOMEM .*0 B left of 1[46]\.0 MiB \(.*hugetlb\.2MB\.(max|limit_in_bytes)/s

describe('huge pages that another process of the control group uses', () => {
  lendHugePages(32)

  beforeEach(function () {
    requires(this, 'root', 'hugePages')
  })

  it('give an error with the numbers when populated, and no SIGBUS', async () => {
    const { error } = await inGroup('populate', 7)
    assert.match(error, shortage)
  })

  it('fail a destination before it listens; it listens after they are free', async () => {
    const { error, ...rest } = await inGroup('beforeListening', 8)
    assert.match(error, shortage)
    assert.deepEqual(rest, { isSame: true, running: [false, true] })
  })

  it('pause a migration after the switch until they are free; a reader waits meanwhile', async () => {
    const { error, states, ...rest } = await inGroup('afterSwitch', 8)
    assert.match(error, shortage)
    assert.deepEqual(states, ['postcopy-paused', 'postcopy-paused'])
    const running = [false, true]
    assert.deepEqual(rest, { isParked: true, reading: 'done', isSame: true, running })
  })
})

describe('a machine on huge pages', () => {
  lendHugePages(32)

  beforeEach(function () {
    requires(this, 'hugePages')
  })

  it('has all of them present before it starts', async () => {
    const guest = await Guest.create({ ram: '16M', memory: 'hugetlb', workload: 'idle:fill=0' })
    cleanups.add(() => guest.close())
    const [ram] = guest.blocks
    assert(ram !== undefined)
    assert(ram.region.mincore(0, ram.lengthBytes).every((present) => present === 1))
  })

  it('has all of them present before its destination listens, with their content', async () => {
    const blocks = { ram: 4 * HUGE }
    const machine = new TestMachine({ kind: 'hugetlb', blocks })
    const ram = machine.region('ram')
    ram.write(0, Uint8Array.of(1))
    await listenFor(machine, { capabilities: postcopy })
    assert(ram.mincore(0, ram.lengthBytes).every((present) => present === 1))
    assert.equal(machine.content('ram')[0], 1)
  })

  for (const now of [false, true]) {
    it(`has the content of the source after ${now ? 'postcopy' : 'precopy'}, although it had other content before`, async () => {
      const blocks = { ram: 4 * HUGE }
      const here = new TestMachine({ kind: 'hugetlb', blocks })
      here.region('ram').write(HUGE, Uint8Array.of(1))
      const there = new TestMachine({ kind: 'hugetlb', blocks })
      there.fill()
      await migratePair(here, there, { capabilities: postcopy, now })
      assert(there.content('ram').equals(here.content('ram')))
    })
  }

  for (const now of [false, true]) {
    it(`has all of them present after ${now ? 'postcopy' : 'precopy'}, also zero pages`, async () => {
      const blocks = { ram: 4 * HUGE }
      const here = new TestMachine({ kind: 'hugetlb', blocks })
      here.region('ram').write(0, Uint8Array.of(1))
      const there = new TestMachine({ kind: 'hugetlb', blocks })
      await migratePair(here, there, { capabilities: postcopy, now })
      const ram = there.region('ram')
      assert(ram.mincore(0, ram.lengthBytes).every((present) => present === 1))
    })
  }
})
