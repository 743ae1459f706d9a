/** What happens to a connection, done. */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { GuestProcess } from '../cli/index.js'
import { errorToRecord } from '../errors.js'
import type { MigrationState } from '../migration/index.js'
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

const BEFORE_STOP: readonly MigrationState[] = ['setup', 'active', 'cancelling']
/** States of a source in which a moment has not come yet. */
const TOO_EARLY: Readonly<Record<When, readonly MigrationState[]>> = {
  connecting: [],
  begun: ['setup', 'postcopy-recover-setup'],
  switching: [...BEFORE_STOP, 'postcopy-recover-setup', 'postcopy-recover'],
  switched: [
    ...([...BEFORE_STOP, 'device', 'postcopy-device'] as const),
    ...(['postcopy-recover-setup', 'postcopy-recover'] as const),
  ],
}

/** Waits for its moment and does it, unless the connection is over before. Puts back what it must. */
export async function act(planned: Break, context: BreakContext): Promise<void> {
  const { journal, tally } = context
  if (planned.kind === 'cut at a byte') {
    await over(context.signal)
    await context.link.change({ cutAfterBytes: Infinity })
    // It may have let all of a short migration through.
    if (context.link.cuts > context.cutsBefore) tally.addBreak(planned.kind)
    return
  }
  if (!(await isDue(planned.when, planned.afterMs, context))) return
  journal.note(planned.kind)
  if (await perform(planned, context)) tally.addBreak(planned.kind)
  else journal.note(`not any more: ${planned.kind}`)
}

/** @returns false where it came too late, or too early, to happen */
async function perform(
  planned: Exclude<Break, { readonly kind: 'cut at a byte' }>,
  context: BreakContext,
): Promise<boolean> {
  const { source, destination, link } = context
  switch (planned.kind) {
    case 'cut': {
      const before = link.cuts
      await link.cut()
      return link.cuts > before
    }
    case 'silence':
      await link.change({ isSilent: true })
      await sleep(planned.forMs)
      await link.change({ isSilent: false })
      return true
    case 'cable out':
    case 'cable out, paused':
      return pullCable(planned, context)
    case 'source stopped':
      return stopProcess(source, planned.forMs)
    case 'destination stopped':
      return stopProcess(destination, planned.forMs)
    case 'paused by source':
      return attempt(source, 'migrate_pause', context)
    case 'paused by destination':
      return attempt(destination, 'migrate_pause', context)
    case 'cancelled':
      return attempt(source, 'migrate_cancel', context)
    case 'destination killed':
      return killBeforeSwitch(context)
    default:
      return assertNever(planned)
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
): Promise<boolean> {
  const { hosts, source, destination } = context
  hosts?.cutLink()
  try {
    await sleep(forMs)
    if (kind === 'cable out') return true
    const told = [source, destination].map((end) => attempt(end, 'migrate_pause', context))
    return (await Promise.all(told)).includes(true)
  } finally {
    hosts?.healLink()
  }
}

/** As its host does when it is suspended, or has other things to do. */
async function stopProcess(guest: GuestProcess, forMs: number): Promise<boolean> {
  process.kill(guest.pid, 'SIGSTOP')
  try {
    await sleep(forMs)
  } finally {
    process.kill(guest.pid, 'SIGCONT')
  }
  return true
}

/** @returns false where it was refused, in the state that things are in by now */
async function attempt(
  guest: GuestProcess,
  command: string,
  { journal }: BreakContext,
): Promise<boolean> {
  journal.note(`${guest.name}> ${command}`)
  try {
    await guest.command(command)
    return true
  } catch (error) {
    const { code, message } = errorToRecord(error)
    // One that waited in vain may have been ended meanwhile.
    const isEnded = !guest.isAlive && guest.crash === undefined
    if (!isEnded && !code.startsWith('ERR_STATE_')) throw error
    journal.note(message)
    return false
  }
}

/**
 * A destination that has begun to run the guest must not be killed: that loses it. It is frozen
 * first; a source that has not sent the end of the package by then has not switched.
 *
 * @returns whether it was killed
 */
async function killBeforeSwitch({ source, destination }: BreakContext): Promise<boolean> {
  process.kill(destination.pid, 'SIGSTOP')
  const { status } = (await source.queryMigrate()).value
  if (status === undefined || !BEFORE_STOP.includes(status)) {
    process.kill(destination.pid, 'SIGCONT')
    return false
  }
  destination.kill()
  await destination.end()
  return true
}
