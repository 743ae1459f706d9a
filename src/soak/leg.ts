/** One migration from one side to the other, with all of its planned breaks. */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { GuestProcess } from '../cli/index.js'
import { PostcopyError } from '../errors.js'
import type { MigrationState } from '../migration/index.js'
import { type BreakContext, act } from './breaks.js'
import type { Ground, Side } from './ground.js'
import type { Journal } from './journal.js'
import { type Outcome, outcomeOf } from './outcome.js'
import type { ConnectionPlan, LegPlan, Route } from './plan.js'
import type { Tally } from './tally.js'

const REST: readonly MigrationState[] = ['completed', 'failed', 'cancelled', 'postcopy-paused']
const IN_POSTCOPY: readonly MigrationState[] = [
  'postcopy-device',
  'postcopy-active',
  'postcopy-recover-setup',
  'postcopy-recover',
]
const SETTLED: readonly MigrationState[] = ['completed', 'failed', 'cancelled']

export interface LegContext {
  readonly ground: Ground
  readonly journal: Journal
  readonly tally: Tally
  /** Starts a process that waits for an incoming guest. */
  awaitGuest(side: Side, plan: LegPlan): GuestProcess
}

export class Leg {
  readonly #context: LegContext
  readonly #plan: LegPlan
  readonly #source: GuestProcess
  readonly #to: Side
  #destination: GuestProcess
  /** Where the destination listens. */
  #uri = ''
  #sockets = 0
  /** Cuts of the link when the present connection began. */
  #cutsBefore = 0

  /** @param source - where the guest runs */
  constructor(context: LegContext, plan: LegPlan, source: GuestProcess, to: Side) {
    this.#context = context
    this.#plan = plan
    this.#source = source
    this.#to = to
    this.#destination = context.awaitGuest(to, plan)
  }

  /**
   * @returns where the guest is now; the other process has ended
   * @throws PostcopyError `ERR_SOAK` for a forbidden result
   */
  async run(): Promise<GuestProcess> {
    await this.#setUp()
    const { isAutomatic, connections } = this.#plan
    let outcome: Outcome = 'stayed'
    if (isAutomatic) outcome = await this.#runAutomatic()
    else {
      for (const connection of connections) {
        await this.#open(connection, outcome === 'paused')
        await this.#let(connection)
        outcome = await this.#conclude()
        if (outcome === 'moved' || outcome === 'unconfirmed') break
      }
    }
    if (outcome !== 'moved' && outcome !== 'unconfirmed') {
      throw wrong(`nothing happened to the last connection, but the guest has ${outcome}`)
    }
    await this.#count()
    await this.#source.end()
    return this.#destination
  }

  async #setUp(): Promise<void> {
    const { capabilities } = this.#plan
    const all = ['postcopy-ram', 'return-path', 'postcopy-preempt', 'x-auto-recover']
    for (const name of all) {
      const value = capabilities.includes(name) ? 'on' : 'off'
      await this.#tell(this.#source, `migrate_set_capability ${name} ${value}`)
    }
    await this.#setParameters(this.#source)
    await this.#setParameters(this.#destination)
  }

  async #setParameters(guest: GuestProcess): Promise<void> {
    for (const [name, value] of Object.entries(this.#plan.parameters)) {
      await this.#tell(guest, `migrate_set_parameter ${name} ${value}`)
    }
  }

  async #tell(guest: GuestProcess, command: string): Promise<void> {
    this.#context.journal.note(`${guest.name}> ${command}`)
    await guest.command(command)
  }

  /** Tells both ends to connect. */
  async #open({ route, break: planned }: ConnectionPlan, isRecovery: boolean): Promise<void> {
    const { journal, tally } = this.#context
    const cutAfterBytes = planned?.kind === 'cut at a byte' ? planned.bytes : Infinity
    const bind = this.#bindFor(route)
    journal.note(`${isRecovery ? 'recovers' : 'connects'} by ${route}: ${JSON.stringify(planned)}`)
    if (isRecovery) this.#uri = await this.#destination.migrateRecover(bind)
    else {
      if (!this.#destination.isAlive) {
        this.#destination = this.#context.awaitGuest(this.#to, this.#plan)
        await this.#setParameters(this.#destination)
      }
      this.#uri = await this.#destination.migrateIncoming(bind)
    }
    await this.#to.link.change({ target: this.#uri, cutAfterBytes, isSilent: false })
    this.#cutsBefore = this.#to.link.cuts
    const uri = route === 'link' ? this.#to.link.uri : this.#uri
    await this.#source.migrate(uri, { resume: isRecovery })
    if (isRecovery) tally.addRecovery(`by hand, ${route}`)
  }

  #bindFor(route: Route): string {
    const path = join(this.#context.ground.folder, `${this.#to.name}-${this.#sockets++}`)
    return route === 'unix' ? `unix:${path}` : `tcp:${this.#to.address}:0`
  }

  /** Runs the connection with its break until both ends are at rest. */
  async #let({ break: planned }: ConnectionPlan): Promise<void> {
    const over = new AbortController()
    const { signal } = over
    const rest = async (): Promise<void> => {
      await this.#source.reached('source', REST)
      await this.#destinationRests()
      over.abort()
    }
    const breaking = planned === undefined ? undefined : act(planned, this.#breakContext(signal))
    await Promise.all([rest(), this.#switchLater(signal), breaking])
  }

  #breakContext(signal: AbortSignal): BreakContext {
    const { ground, journal, tally } = this.#context
    const [source, destination, link] = [this.#source, this.#destination, this.#to.link]
    const { hosts } = ground
    const cutsBefore = this.#cutsBefore
    return { source, destination, link, cutsBefore, hosts, journal, tally, signal }
  }

  async #switchLater(signal: AbortSignal): Promise<void> {
    const { postcopyAfterMs } = this.#plan
    if (postcopyAfterMs === undefined) return
    await this.#source.reached('source', ['active', 'device', ...IN_POSTCOPY, ...REST])
    await sleep(postcopyAfterMs, undefined, { signal }).catch(() => undefined)
    if (this.#source.state('source') !== 'active') return
    await this.#tell(this.#source, 'migrate_start_postcopy')
  }

  /** Waits until the destination rests; ends or pauses one whose connection never arrived. */
  async #destinationRests(): Promise<void> {
    const [destination, { journal }] = [this.#destination, this.#context]
    // Its answer arrives after all state events that it sent before.
    await destination.queryMigrate().catch(() => undefined)
    if (!destination.isAlive) return
    switch (destination.state('destination')) {
      case 'setup':
        journal.note(`${destination.name} has no connection, and is ended`)
        destination.kill()
        await destination.end()
        return
      case 'postcopy-recover-setup':
        // A connection in flight may still arrive. Then the command fails, and the loss of that
        // connection pauses the destination.
        await this.#tell(destination, 'migrate_pause').catch(() => undefined)
        break
      default:
    }
    await destination.reached('destination', REST)
  }

  /** @returns the outcome. @throws if two guests run, or none that can be recovered */
  async #conclude(): Promise<Outcome> {
    const { journal, tally } = this.#context
    const runs = async (guest: GuestProcess): Promise<boolean> =>
      guest.isAlive && ((await guest.command('info status')).value as { running: boolean }).running
    const [source, destination] = [this.#source, this.#destination]
    const crash = source.crash ?? destination.crash
    if (crash !== undefined) throw crash
    const outcome = outcomeOf({
      source: source.state('source'),
      destination: destination.isAlive ? destination.state('destination') : 'gone',
      runsHere: await runs(source),
      runsThere: await runs(destination),
    })
    if (typeof outcome === 'object') throw wrong(outcome.wrong)
    journal.note(`the guest: ${outcome}`)
    if (outcome === 'stayed' || outcome === 'stopped') tally.add('failed')
    if (outcome === 'unconfirmed') tally.add('unconfirmed')
    if (outcome !== 'stopped') return outcome
    tally.add('takenBack')
    await this.#tell(source, 'cont -f')
    // It has loaded a part of the devices, and cannot load them again.
    destination.kill()
    await destination.end()
    return 'stayed'
  }

  /** Sends no command to recover: both ends do it by themselves, as often as necessary. */
  async #runAutomatic(): Promise<Outcome> {
    const { journal, tally } = this.#context
    const [source, link] = [this.#source, this.#to.link]
    const count = (status: MigrationState): void => {
      if (status === 'postcopy-recover') tally.addRecovery('by itself')
    }
    source.on('migration', count)
    await this.#open({ route: 'link' }, false)
    const over = new AbortController()
    const switching = this.#switchLater(over.signal)
    for (const { break: planned } of this.#plan.connections) {
      if (planned?.kind !== 'cut') continue
      await source.reached('source', ['postcopy-active', ...SETTLED])
      await sleep(planned.afterMs)
      if (SETTLED.includes(source.state('source'))) break
      const before = link.cuts
      await link.cut()
      if (link.cuts === before) continue
      journal.note('cut')
      tally.addBreak('cut')
    }
    await this.#destination.reached('destination', SETTLED)
    // The answer follows every state event up to the destination's completion. A source that is
    // paused then was not told of it, and tries to reach a destination that no longer waits.
    await source.queryMigrate()
    await source.reached('source', REST)
    over.abort()
    await switching
    source.off('migration', count)
    return this.#conclude()
  }

  async #count(): Promise<void> {
    const { tally } = this.#context
    const [{ value: left }, { value: arrived }] = await Promise.all([
      this.#source.queryMigrate(),
      this.#destination.queryMigrate(),
    ])
    const { normal = 0, duplicate = 0 } = left.ram ?? {}
    tally.add('migrations')
    tally.add('pages', normal + duplicate)
    if (arrived['x-faults'] === undefined) return
    tally.add('switches')
    tally.add('faults', arrived['x-faults'])
  }
}

export function wrong(what: string): PostcopyError {
  return new PostcopyError('ERR_SOAK', what)
}
