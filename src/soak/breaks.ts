/** What happens to a connection, done. */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { GuestProcess } from '../cli/guest-process.js'
import type { MigrationState } from '../migration/states.js'
import type { TwoHosts } from '../testing/index.js'
import { assertNever } from '../units.js'
import type { Side } from './ground.js'
import type { Journal } from './journal.js'
import type { Break, When } from './plan.js'
import type { Tally } from './tally.js'

export interface BreakContext {
  readonly source: GuestProcess
  readonly destination: GuestProcess
  readonly link: Side['link']
  /** What the link had cut before this connection. */
  readonly cutsBefore: number
  /** Whose cable is pulled. */
  readonly hosts: TwoHosts | undefined
  readonly journal: Journal
  readonly tally: Tally
  /** The connection is over: what has not happened does not happen any more. */
  readonly signal: AbortSignal
}

/** Guests that the destination has not begun to run. */
const BEFORE_SWITCH: readonly (MigrationState | undefined)[] = ['setup', 'active', 'cancelling']
/** States of a source in which a moment has not come yet. */
const TOO_EARLY: Readonly<Record<When, readonly MigrationState[]>> = {
  connecting: [],
  begun: ['setup', 'postcopy-recover-setup'],
  switched: [
    ...(['setup', 'active', 'cancelling', 'device', 'postcopy-device'] as const),
    ...(['postcopy-recover-setup', 'postcopy-recover'] as const),
  ],
}

/** Waits for its moment and does it, unless the connection is over before. Puts back what it must. */
export async function act(planned: Break, context: BreakContext): Promise<void> {
  if (planned.kind === 'cut at a byte') {
    await over(context.signal)
    await context.link.change({ cutAfterBytes: Infinity })
    // It may have let all of a short migration through.
    if (context.link.cuts > context.cutsBefore) context.tally.addBreak(planned.kind)
    return
  }
  if (!(await isDue(planned.when, planned.afterMs, context))) return
  const { source, destination, journal, tally } = context
  journal.note(planned.kind)
  tally.addBreak(planned.kind)
  switch (planned.kind) {
    case 'cut':
      await context.link.cut()
      break
    case 'silence':
      await context.link.change({ isSilent: true })
      await sleep(planned.forMs)
      await context.link.change({ isSilent: false })
      break
    case 'cable out':
    case 'cable out, paused':
      await pullCable(planned, context)
      break
    case 'source stopped':
      await stopProcess(source, planned.forMs)
      break
    case 'destination stopped':
      await stopProcess(destination, planned.forMs)
      break
    case 'paused by source':
      await pause(source, context)
      break
    case 'paused by destination':
      await pause(destination, context)
      break
    case 'cancelled':
      await attempt(source, 'migrate_cancel', context)
      break
    case 'destination killed':
      await killBeforeSwitch(context)
      break
    default:
      assertNever(planned)
  }
}

function over(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

/** @returns false if the connection was over first */
async function isDue(
  when: When,
  afterMs: number,
  { source, signal }: BreakContext,
): Promise<boolean> {
  while (TOO_EARLY[when].includes(source.state('source'))) {
    await Promise.race([over(signal), once(source, 'changed')])
    if (signal.aborted) return false
  }
  await sleep(afterMs, undefined, { signal }).catch(() => undefined)
  return !signal.aborted
}

async function pullCable(
  { kind, forMs }: { kind: 'cable out' | 'cable out, paused'; forMs: number },
  context: BreakContext,
): Promise<void> {
  const { hosts, source, destination } = context
  hosts?.cutLink()
  try {
    await sleep(forMs)
    if (kind === 'cable out') return
    await Promise.all([source, destination].map((guest) => pause(guest, context)))
  } finally {
    hosts?.healLink()
  }
}

/** As its host does when it is suspended, or has other things to do. */
async function stopProcess(guest: GuestProcess, forMs: number): Promise<void> {
  process.kill(guest.pid, 'SIGSTOP')
  try {
    await sleep(forMs)
  } finally {
    process.kill(guest.pid, 'SIGCONT')
  }
}

/** Refused where it is not in postcopy, or at rest by now. */
async function pause(guest: GuestProcess, context: BreakContext): Promise<void> {
  await attempt(guest, 'migrate_pause', context)
}

async function attempt(guest: GuestProcess, command: string, context: BreakContext): Promise<void> {
  context.journal.note(`${guest.name}> ${command}`)
  try {
    await guest.command(command)
  } catch (error) {
    if (
      !(error instanceof Error && 'code' in error) ||
      !String(error.code).startsWith('ERR_STATE_')
    ) {
      throw error
    }
    context.journal.note(error.message)
  }
}

/**
 * A destination that has begun to run the guest must not be killed: that loses it. It is frozen
 * first; a source that has not sent the end of the package by then has not switched.
 */
async function killBeforeSwitch({ source, destination, journal }: BreakContext): Promise<void> {
  process.kill(destination.pid, 'SIGSTOP')
  const { status } = (await source.queryMigrate()).value
  if (!BEFORE_SWITCH.includes(status)) {
    journal.note('not killed: the guest is there')
    process.kill(destination.pid, 'SIGCONT')
    return
  }
  destination.kill()
  await destination.end()
}
