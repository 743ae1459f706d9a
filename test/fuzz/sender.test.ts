/**
 * The source's state machine, with its real connection, against destinations that send any message
 * at any moment: which end has the guest afterwards?
 */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { PostcopyError } from '../../src/errors.js'
import { MemoryRegion } from '../../src/kernel/index.js'
import { createCounters } from '../../src/migration/counters.js'
import { resolveOptions } from '../../src/migration/options.js'
import { type MigrationState, isAtRest } from '../../src/migration/states.js'
import { PageBitmap } from '../../src/ram/page-bitmap.js'
import { type SourceBlock, attachBlocks } from '../../src/source/block.js'
import { Recovery } from '../../src/source/recovery.js'
import { Sender } from '../../src/source/sender.js'
import { cleanups } from '../support/cleanup.js'
import {
  type Moment,
  type Script,
  ScriptedDestination,
  type Word,
  moments,
} from './scripted-destination.js'

const PAGE = 4096
const PAGES = 64
const RUNS = 40
/** Long for a reaction within one process, short for one that never follows. */
const parameters = { 'x-timeout': 250 }

function block(): SourceBlock {
  const region = MemoryRegion.create({ kind: 'anon', lengthBytes: PAGES * PAGE })
  for (let page = 0; page < PAGES; page += 2) {
    region.write(page * PAGE, new Uint8Array(PAGE).fill(page + 1))
  }
  const bitmap = (): Uint8Array => new PageBitmap(PAGES).bytes
  const [attached] = attachBlocks([
    {
      name: 'ram',
      regionId: region.id,
      lengthBytes: PAGES * PAGE,
      dirty: bitmap(),
      owed: bitmap(),
      data: bitmap().fill(0xff),
      leftOut: bitmap(),
      confirmed: bitmap(),
      available: undefined,
    },
  ])
  assert(attached !== undefined)
  cleanups.add(() => {
    attached.block.close()
    region.close()
  })
  return attached
}

const word: fc.Arbitrary<Word> = fc.oneof(
  fc.record({
    type: fc.constant('pong' as const),
    value: fc.constantFrom(1, 2, 3, 0x42, 65_536, 65_537, 70_000),
  }),
  fc.record({ type: fc.constant('shut' as const), value: fc.constantFrom(0, 0, 1, 7) }),
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant('request' as const),
      block: fc.constantFrom('ram', 'ram', 'ram', 'rom'),
      start: fc.nat(PAGES).map((page) => page * PAGE),
      length: fc.constantFrom(PAGE, PAGE, PAGE, 8 * PAGE, 0, 100),
    }),
  },
  fc.record({
    type: fc.constant('bitmap' as const),
    block: fc.constantFrom('ram', 'rom'),
    bytes: fc.uint8Array({ minLength: 0, maxLength: 10 }),
  }),
  fc.record({ type: fc.constantFrom('ack' as const, 'close' as const, 'reset' as const) }),
  fc.record({ type: fc.constant('raw' as const), bytes: fc.uint8Array({ maxLength: 8 }) }),
)

/** No messages at most moments, so that later moments are reached. */
const words = fc
  .array(fc.tuple(fc.constantFrom(...moments), word), { maxLength: 4 })
  .map((list) => {
    const of = (moment: Moment): Word[] => list.flatMap(([at, one]) => (at === moment ? [one] : []))
    return {
      connected: of('connected'),
      blocks: of('blocks'),
      bitmaps: of('bitmaps'),
      package: of('package'),
      resume: of('resume'),
      end: of('end'),
    }
  })
const answersPings = fc.oneof({ weight: 5, arbitrary: fc.constant(true) }, fc.constant(false))

/** Records what a source reports. */
class Observer {
  readonly states: MigrationState[] = []
  error: unknown
  runs = true
  handover: 'precopy' | 'postcopy' | undefined

  stateChanged(state: MigrationState, error: unknown): void {
    this.states.push(state)
    this.error = error
  }

  /** It is at rest, and any failure has an error code of ours. */
  check(): MigrationState {
    const state = this.states.at(-1)
    assert(state !== undefined && isAtRest(state), this.states.join(' '))
    if (state !== 'completed') {
      assert(this.error instanceof PostcopyError, String(this.error))
      assert(!['ERR_STATE_TRANSITION', 'ERR_INTERNAL'].includes(this.error.code))
    }
    return state
  }
}

async function migrate(script: Script, postcopy: boolean, preempt: boolean): Promise<void> {
  const seen = new Observer()
  const destination = await ScriptedDestination.listen(script, undefined)
  cleanups.add(() => destination.close())
  const { uri } = destination
  const sender = new Sender(
    {
      stateChanged: (state, error) => seen.stateChanged(state, error),
      stopGuest: () => {
        seen.runs = false
        const data = Uint8Array.of(0, 0, 0, 0)
        return Promise.resolve([{ idstr: 'state', instanceId: 0, version: 1, data }])
      },
      resumeGuest: () => {
        seen.runs = true
      },
      passBegins: () => undefined,
      handingOver: (how) => {
        seen.handover = how
      },
      givenBack: () => undefined,
      claimed: () => undefined,
      confirmed: () => undefined,
    },
    [block()],
    {
      uri,
      tls: undefined,
      machineType: 'fuzzed',
      configuration: undefined,
      ramSectionId: undefined,
      loadRanges: [],
      dirtyLog: 'none',
      postcopyAtOnce: postcopy,
      ...resolveOptions({
        capabilities: {
          'postcopy-ram': postcopy,
          'postcopy-preempt': postcopy && preempt,
          'return-path': true,
        },
        parameters,
      }),
    },
    createCounters(),
  )
  await sender.run()
  const { saidShut, pages } = destination
  switch (seen.check()) {
    case 'completed':
      assert.equal(saidShut, 0)
      assert.equal(pages.size, PAGES)
      assert.equal(seen.runs, false)
      break
    case 'postcopy-paused':
      assert.equal(seen.handover, 'postcopy')
      assert.equal(seen.runs, false)
      break
    default: {
      const isUnknown = seen.handover !== undefined && (saidShut ?? 0) === 0
      // If the destination may have everything and has not refused it, the guest
      // must not run here.
      assert.equal(seen.runs, !isUnknown)
      if (isUnknown) assert.equal(seen.handover, 'precopy')
    }
  }
}

async function recover(script: Script, received: PageBitmap): Promise<void> {
  const seen = new Observer()
  const resume = { ramSectionId: 2, blocks: [{ name: 'ram', usedLengthBytes: PAGES * PAGE }] }
  const destination = await ScriptedDestination.listen(script, resume)
  cleanups.add(() => destination.close())
  const own = block()
  // The source has sent what the destination reports as received.
  own.dirty.setAll()
  own.dirty.remove(received)
  const { capabilities, parameters: resolved } = resolveOptions({
    capabilities: { 'postcopy-ram': true },
    parameters,
  })
  const recovery = new Recovery(
    {
      stateChanged: (state, error) => seen.stateChanged(state, error),
      claimed: () => undefined,
      confirmed: () => undefined,
    },
    [own],
    { uri: destination.uri, tls: undefined, ramSectionId: 2, capabilities, parameters: resolved },
    createCounters(),
  )
  await recovery.run()
  if (seen.check() === 'completed') {
    assert.equal(destination.saidShut, 0)
    for (let page = 0; page < PAGES; page += 1) {
      assert(received.test(page) || destination.pages.has(`ram:${page * PAGE}`), `page ${page}`)
    }
  }
}

/** Runs one of many cases in a test, and cleans up after it. */
async function cleanly(run: () => Promise<void>): Promise<void> {
  try {
    await run()
  } finally {
    await cleanups.run()
  }
}

describe('a source whose destination sends any message at any time', () => {
  it('ends at rest, with at most one guest, and with every page sent if it completes', async () => {
    const script = fc.record({ words, answersPings, bitmaps: fc.constant(undefined) })
    await fc.assert(
      fc.asyncProperty(script, fc.boolean(), fc.boolean(), (...how) =>
        cleanly(() => migrate(...how)),
      ),
      { numRuns: RUNS },
    )
  })

  it('in a recovery stays paused, or completes with every page', async () => {
    const received = fc.array(fc.nat(PAGES - 1), { maxLength: 30 }).map((pages) => {
      const bitmap = new PageBitmap(PAGES)
      for (const page of pages) bitmap.set(page)
      return bitmap
    })
    const bitmap = fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, fc.constant(false))
    await fc.assert(
      fc.asyncProperty(words, received, bitmap, (list, had, answers) => {
        const bitmaps = new Map(answers ? [['ram', had.bytes]] : [])
        return cleanly(() => recover({ words: list, answersPings: true, bitmaps }, had))
      }),
      { numRuns: RUNS },
    )
  })
})
