/**
 * Migrates guests to and fro, and checks each of them, until the time is over or a check fails.
 */
import { GuestProcess } from '../cli/index.js'
import type { Ground } from './ground.js'
import { type Side } from './ground.js'
import { Journal } from './journal.js'
import { Leg, wrong } from './leg.js'
import { LEGS_OF_A_LIFE, type GuestPlan, type LegPlan, planGuest, planLeg } from './plan.js'
import { Tally } from './tally.js'

/** A leg with six breaks takes some seconds; a leg that takes this long hangs. */
const LEG_LIMIT_MS = 180_000
const WORK_LIMIT_MS = 30_000

export interface SoakOptions {
  readonly seed: number
  /** The first leg, from 0. */
  readonly firstLeg: number
  readonly lengthMs: number
  /** Called after each leg. */
  onLeg(leg: number, tally: Tally): void
  /** Called with each line of the journal at once. */
  readonly onNote?: (line: string) => void
}

export class Soak {
  readonly tally = new Tally()
  readonly journal: Journal
  readonly #options: SoakOptions
  readonly #ground: Ground
  #guests = 0
  #leg = 0

  constructor(options: SoakOptions, ground: Ground) {
    this.#options = options
    this.#ground = ground
    this.journal = new Journal(options.onNote)
  }

  /** The current leg, from 0. */
  get leg(): number {
    return this.#leg
  }

  /** @throws PostcopyError for the first failure; {@link Soak.journal} has the details */
  async run(): Promise<void> {
    const { firstLeg, lengthMs, seed } = this.#options
    const endsAt = performance.now() + lengthMs
    let guest: GuestProcess | undefined
    let side = this.#ground.a
    for (this.#leg = firstLeg; performance.now() < endsAt; this.#leg += 1) {
      this.journal.restart()
      const plan = planGuest(seed, Math.floor(this.#leg / LEGS_OF_A_LIFE))
      if (this.#leg % LEGS_OF_A_LIFE === 0) {
        await guest?.end()
        guest = undefined
      }
      guest ??= this.#bear(side, plan)
      guest = await this.#step(guest, side, plan)
      side = this.#ground.other(side)
      this.#options.onLeg(this.#leg, this.tally)
    }
    await guest?.end()
  }

  async #step(guest: GuestProcess, from: Side, plan: GuestPlan): Promise<GuestProcess> {
    const { seed } = this.#options
    const leg = planLeg(seed, this.#leg, this.#ground.hosts !== undefined)
    this.journal.note(`leg ${this.#leg} from ${from.name}: ${JSON.stringify(leg)}`)
    const to = this.#ground.other(from)
    const awaitGuest = (side: Side, { memory, capabilities }: LegPlan): GuestProcess =>
      this.#start('destination', side, plan, [
        ...['--memory', memory, '--incoming', 'defer'],
        ...capabilities.flatMap((name) => ['--capability', name]),
      ])
    const { journal, tally } = this
    const context = { ground: this.#ground, journal, tally, awaitGuest }
    return withDeadline(async () => {
      const arrived = await new Leg(context, leg, guest, to).run()
      await this.#check(arrived)
      return arrived
    })
  }

  #bear(side: Side, plan: GuestPlan): GuestProcess {
    this.journal.note(`a new guest on ${side.name}: ${JSON.stringify(plan)}`)
    this.tally.add('guests')
    return this.#start('source', side, plan, ['--workload', plan.workload])
  }

  #start(
    role: 'source' | 'destination',
    side: Side,
    { ram, vcpus }: GuestPlan,
    rest: readonly string[],
  ): GuestProcess {
    const name = `${side.name}${this.#guests++}`
    const args = ['--ram', ram, '--vcpus', String(vcpus), ...rest]
    const guest = new GuestProcess(role, args, {
      name,
      spawn: (command, given) => side.spawn(command, given),
    })
    guest.on('migration', (status, _atMs, as, why) => {
      this.journal.note(`${name} as ${as}: ${status}${why === undefined ? '' : `: ${why}`}`)
    })
    return guest
  }

  /** Checks that the guest works here, and that every page of it is right. */
  async #check(guest: GuestProcess): Promise<void> {
    const touches = async (): Promise<number> =>
      (await guest.queryCpus()).value.reduce((sum, cpu) => sum + cpu.touches, 0)
    const [before, limit] = [await touches(), performance.now() + WORK_LIMIT_MS]
    while ((await touches()) === before) {
      if (performance.now() > limit) throw wrong('the guest does not work at the destination')
    }
    await guest.command('stop')
    const report = await guest.verify()
    if (!report.verified) throw wrong(`the guest is not whole: ${JSON.stringify(report)}`)
    this.tally.add('verified')
    this.tally.add('verifiedPages', report.pages)
    await guest.command('cont')
  }
}

async function withDeadline<T>(work: () => Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(wrong(`a leg hangs: ${LEG_LIMIT_MS} ms`)), LEG_LIMIT_MS)
  })
  try {
    return await Promise.race([work(), deadline])
  } finally {
    clearTimeout(timer)
  }
}
