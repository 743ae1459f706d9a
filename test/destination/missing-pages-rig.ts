/** The missing pages of a destination whose source is a recorded connection. */
import assert from 'node:assert/strict'
import { type DestinationBlock, isComplete } from '../../src/destination/block.js'
import { FaultLog, createFaultLog, reportFaults } from '../../src/destination/fault-log.js'
import { IncomingSession } from '../../src/destination/incoming-session.js'
import { MissingPages } from '../../src/destination/missing-pages.js'
import { Placement } from '../../src/destination/placement.js'
import type { Userfaultfd } from '../../src/kernel/index.js'
import { createCounters } from '../../src/migration/counters.js'
import { resolveOptions } from '../../src/migration/options.js'
import { cleanups } from '../support/cleanup.js'
import { RecordingChannel } from '../support/recording-channel.js'
import { PAGE, discardedBlock, returnPathMessages } from './support.js'

const listening = ['POSTCOPY_ADVISE', 'PACKAGED'] as const
const running = [...listening, 'taken'] as const
/** Events after the source has connected. */
const stepsTo = {
  advise: ['POSTCOPY_ADVISE'],
  listening,
  running,
  'running-ended': [...running, 'EOF'],
} as const

const nothing = (): void => undefined
const noActions = {
  prepare: nothing,
  beginDiscards: nothing,
  arm: nothing,
  loadPackage: nothing,
  checkComplete: nothing,
}

export interface Setting {
  readonly blocks?: readonly DestinationBlock[]
  readonly phase?: keyof typeof stepsTo
  readonly preempt?: boolean
}

/** A read with more than one requested page, after which faults are read at once. */
export const LONG_READ_BYTES = 8 * 1024 + 1

/** Missing pages of an end whose source is `channel`, and what they report. */
export function missingPages(setting: Setting = {}) {
  const { blocks = [discardedBlock(8)], phase = 'running', preempt = true } = setting
  const counters = createCounters()
  const faultLog = createFaultLog()
  const placement = new Placement(blocks, counters)
  const channel = new RecordingChannel()
  const log: string[] = []
  const fail = (error: unknown): void => {
    log.push(error instanceof Error ? error.message : String(error))
  }
  const session = new IncomingSession(
    {
      initial: 'setup',
      counters,
      parameters: { 'x-max-unread-bytes': 2 ** 20, 'x-silence-timeout': 0 },
      lingerMs: 1,
    },
    {
      stateChanged: (state) => void log.push(state),
      decode: (_bytes, start, end) => end - start,
      afterRead: () => undefined,
      closed: () => undefined,
      giveBack: () => false,
      failureActions: (error) => ({ keepParked: () => fail(error), close: () => undefined }),
    },
  )
  session.accept(channel.asChannel)
  for (const event of stepsTo[phase]) session.phases.take(event, noActions)
  log.length = 0
  session.returnPath.isOpen = true
  let held: Userfaultfd | undefined
  const { capabilities, parameters } = resolveOptions({
    capabilities: { 'postcopy-ram': true, 'postcopy-preempt': preempt },
    parameters: { 'x-silence-timeout': 55, 'x-spin-us': 9 },
  })
  const missing = new MissingPages(
    blocks,
    { capabilities, parameters, userModeOnly: undefined, ownerThreadId: undefined },
    counters,
    new FaultLog(faultLog),
    placement,
    session,
    {
      holdUserfaultfd: (uffd) => {
        held = uffd
        cleanups.add(() => uffd.close())
      },
      announcedBlocks: () =>
        blocks.map(({ block }) => ({ name: block.name, usedLengthBytes: block.lengthBytes })),
      preemptPages: { ramPage: (_name, offset) => void log.push(`page ${offset / PAGE}`) },
      placed: () => void log.push('placed'),
      isComplete: () => isComplete(blocks),
    },
  )
  return {
    missing,
    session,
    placement,
    counters,
    channel,
    log,
    uffd: (): Userfaultfd => {
      assert(held !== undefined)
      return held
    },
    arm: (): void => {
      missing.open()
      missing.arm()
      cleanups.add(() => missing.disarm())
    },
    /** Resolves at the next write to the source. */
    written: () =>
      new Promise<void>((resolve) => {
        channel.onWrite = resolve
      }),
    faultsLogged: () => reportFaults(faultLog).count,
    /** What the source was told so far. */
    messages: () => returnPathMessages(channel.bytes, blocks),
  }
}
