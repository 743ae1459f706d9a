/**
 * Runs in a control group that grants {@link GRANTED_PAGES} huge pages: migrations whose huge
 * pages another user of the group takes. Prints the results as JSON.
 */
import assert from 'node:assert/strict'
import { KernelError } from '../../src/errors.js'
import { MemoryRegion } from '../../src/kernel/index.js'
import { native } from '../../src/kernel/load.js'
import { cleanups } from '../support/cleanup.js'
import {
  ended,
  listenFor,
  migratePair,
  postcopy,
  reached,
  startPair,
} from '../support/migration.js'
import { Parked } from '../support/park.js'
import { TestMachine } from '../support/test-machine.js'

const HUGE = 2 ** 21
const RAM_PAGES = 3

/** A program that takes huge pages without checking the limit. */
class OtherUser {
  readonly #regions: MemoryRegion[] = []

  /** Takes all that the group still grants. */
  takeAll(): void {
    for (;;) {
      const made = native().regionCreate(2, HUGE, false, 'other')
      if (Array.isArray(made)) throw new Error(`the pool is too small: ${made.join(' ')}`)
      const region = MemoryRegion.attach(native().regionInfo(made).id)
      native().regionClose(made)
      this.#regions.push(region)
      try {
        region.madvise('POPULATE_WRITE')
      } catch (error) {
        assert(error instanceof KernelError)
        return
      }
    }
  }

  release(): void {
    for (const region of this.#regions.splice(0)) region.close()
  }
}

/** An error's text, for the test. */
function told(error: unknown): string {
  return error instanceof Error && 'code' in error ? `${String(error.code)} ${error.message}` : ''
}

const scenarios: Record<string, (other: OtherUser) => Promise<object>> = {
  async populate(other) {
    const region = MemoryRegion.create({ kind: 'hugetlb', lengthBytes: RAM_PAGES * HUGE })
    other.takeAll()
    let error = ''
    try {
      region.populate(0, region.lengthBytes)
    } catch (thrown) {
      error = told(thrown)
    }
    other.release()
    region.populate(0, region.lengthBytes)
    region.close()
    return Promise.resolve({ error })
  },

  async beforeListening(other) {
    const blocks = { ram: RAM_PAGES * HUGE }
    const here = new TestMachine({ kind: 'hugetlb', blocks })
    here.fill()
    const there = new TestMachine({ kind: 'hugetlb', blocks })
    other.takeAll()
    here.start()
    const error = await listenFor(there, { capabilities: postcopy }).then(() => '', told)
    other.release()
    await migratePair(here, there, { capabilities: postcopy, now: true })
    const isSame = there.content('ram').equals(here.content('ram'))
    return { error, isSame, running: [here.running, there.running] }
  },

  async afterSwitch(other) {
    const blocks = { ram: RAM_PAGES * HUGE }
    const here = new TestMachine({ kind: 'hugetlb', blocks })
    here.fill()
    here.start()
    const there = new TestMachine({
      kind: 'hugetlb',
      blocks,
      // Discarded pages are no longer charged; discards take place before the devices are loaded.
      onLoad: (idstr) => {
        if (idstr === 'state') other.takeAll()
      },
    })
    const { source, destination } = await startPair(here, there, {
      capabilities: postcopy,
      source: { parameters: { 'x-push-after-quiet-ms': 2 ** 31 } },
    })
    source.startPostcopy()
    await reached(destination, 'postcopy-active')
    const reader = new Parked(there.region('ram'), 'read', HUGE)
    await Promise.all([ended(source), ended(destination)])
    const states = [source.state, destination.state]
    const error = told(destination.error)
    const isParked = await reader.sleeps()
    other.release()
    source.setParameters({ 'x-push-after-quiet-ms': 0 })
    await source.recover(await destination.recover())
    await Promise.all([source.done, destination.done])
    const reading = await reader.result
    const isSame = there.content('ram').equals(here.content('ram'))
    return { error, states, isParked, reading, isSame, running: [here.running, there.running] }
  },
}

const scenario = scenarios[process.argv[2] ?? '']
assert(scenario !== undefined)
const other = new OtherUser()
try {
  console.log(JSON.stringify(await scenario(other)))
} finally {
  other.release()
  await cleanups.run()
}
