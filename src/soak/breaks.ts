/** Carries out the planned break of a connection. */
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
  /** The number of cuts of the link before this connection. */
  readonly cutsBefore: number
  /** The hosts whose cable is pulled. */
  readonly hosts: TwoHosts | undefined
  readonly journal: Journal
  readonly tally: Tally
  /** Aborted when the connection is over: a break that has not happened by then is dropped. */
  readonly signal: AbortSignal
}

const BEFORE_STOP: readonly MigrationState[] = ['setup', 'active', 'cancelling']
/** For each moment, the states of a source in which it has not been reached. */
const TOO_EARLY: Readonly<Record<When, readonly MigrationState[]>> = {
  connecting: [],
  begun: ['setup', 'postcopy-recover-setup'],
  switching: [...BEFORE_STOP, 'postcopy-recover-setup', 'postcopy-recover'],
  switched: [
    ...([...BEFORE_STOP, 'device', 'postcopy-device'] as const),
    ...(['postcopy-recover-setup', 'postcopy-recover'] as const),
  ],
}

/**
 * Waits for the moment and breaks the connection, unless that is over
 * first. Undoes what is temporary.
 */
export async function act(planned: Break, context: BreakContext): Promise<void> {
  const { journal, tally } = context
  if (planned.kind === 'cut at a byte') {
    await over(context.signal)
    await context.link.change({ cutAfterBytes: Infinity })
    // A short migration may have ended below the limit, without a cut.
    if (context.link.cuts > context.cutsBefore) tally.addBreak(planned.kind)
    return
  }
  if (!(await isDue(planned.when, planned.afterMs, context))) return
  journal.note(planned.kind)
  if (await perform(planned, context)) tally.addBreak(planned.kind)
  else journal.note(`too late for the break: ${planned.kind}`)
}

/** @returns false if it was too late, or too early, for the break */
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
    case 'link down':
    case 'link down, paused':
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
  { kind, forMs }: { kind: 'link down' | 'link down, paused'; forMs: number },
  context: BreakContext,
): Promise<boolean> {
  const { hosts, source, destination } = context
  hosts?.cutLink()
  try {
    await sleep(forMs)
    if (kind === 'link down') return true
    const told = [source, destination].map((end) => attempt(end, 'migrate_pause', context))
    return (await Promise.all(told)).includes(true)
  } finally {
    hosts?.healLink()
  }
}

/** Stops a process as a suspended or overloaded host would. */
async function stopProcess(guest: GuestProcess, forMs: number): Promise<boolean> {
  process.kill(guest.pid, 'SIGSTOP')
  try {
    await sleep(forMs)
  } finally {
    process.kill(guest.pid, 'SIGCONT')
  }
  return true
}

/** @returns false if the command was refused because the state has changed */
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
    // A destination that waited in vain may have been killed by then.
    const isEnded = !guest.isAlive && guest.crash === undefined
    if (!isEnded && !code.startsWith('ERR_STATE_')) throw error
    journal.note(message)
    return false
  }
}

/**
 * A destination that has begun to run the guest must not be killed: the guest would
 * be lost. It is therefore stopped first. A source that has not sent the end of the
 * package by then has not switched.
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
