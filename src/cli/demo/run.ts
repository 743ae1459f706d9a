/** One migration between two guest processes, observed from outside. */
import { setTimeout as sleep } from 'node:timers/promises'
import { PostcopyError } from '../../errors.js'
import type { VerifyReport } from '../../guest/index.js'
import { isAtRest, type MigrationState } from '../../migration/index.js'
import type { BlockArrivals, MigrationInfo } from '../../monitor/index.js'
import { formatByteSize } from '../../units.js'
import type { GuestProcess } from '../guest-process.js'
import { explainStall, processorUse } from './stall.js'

/** When postcopy starts: milliseconds after the first page was sent, or one of two words. */
export type PostcopyAfter = number | 'now' | 'never'

/** The answers of both ends at one moment. */
export interface Sample {
  /** Since the migration began. */
  readonly atMs: number
  readonly status: MigrationState
  readonly transferredBytes: number
  readonly remainingBytes: number
  readonly totalBytes: number
  readonly bytesPerSecond: number
  readonly faults: number
  readonly rounds: number
  readonly dirtyPagesPerSecond: number
  /** Touches per second of all vCPUs, on either host, since the previous sample. */
  readonly touchesPerSecond: number
}

/** A state that an end has entered. */
export interface Milestone {
  readonly role: 'source' | 'destination'
  readonly status: MigrationState
  /** Since the migration began. */
  readonly atMs: number
}

export interface RunResult {
  /** The fields of both ends by QEMU's names; if both have one, the source's. */
  readonly info: MigrationInfo
  readonly verify: VerifyReport
  /** Number of touches by the vCPUs at the destination. */
  readonly workAfterSwitch: number
  /** The workload has nothing to do, or had finished before. */
  readonly isIdle: boolean
  readonly samples: readonly Sample[]
  readonly milestones: readonly Milestone[]
  readonly arrivals: readonly BlockArrivals[]
}

export interface RunOptions {
  /** Of the guest. */
  readonly vcpus: number
  readonly postcopyAfter: PostcopyAfter
  /** Of the source; default: no bandwidth limit. */
  readonly parameters?: Readonly<Record<string, string>>
  /** Cells of the page map of a block; 0 for none. */
  readonly cells: number
  /** A plain precopy that takes longer counts as not converging. Default 60 000. */
  readonly precopyLimitMs?: number
  onSample(sample: Sample): void
  onNote(text: string): void
}

/** How long the guest works before the migration, and after it. */
const WORK_MS = 300
const SAMPLE_MS = 50
const PRECOPY_LIMIT_MS = 60_000
/** Without progress for this long, the migration counts as stalled. */
const STALL_MS = 30_000
const RESUME_LIMIT_MS = 10_000
/** Rounds after which it is known whether precopy converges. */
const HINT_ROUNDS = 5

export class MigrationRun {
  readonly #source: GuestProcess
  readonly #destination: GuestProcess
  readonly #options: RunOptions
  readonly #samples: Sample[] = []
  readonly #milestones: Milestone[] = []
  #startedAtMs = 0
  #hinted = false
  #lastTouches: { touches: number; atMs: number } | undefined

  constructor(source: GuestProcess, destination: GuestProcess, options: RunOptions) {
    this.#source = source
    this.#destination = destination
    this.#options = options
    for (const guest of [source, destination]) {
      guest.on('migration', (status, atMs) => {
        this.#milestones.push({ role: guest.role, status, atMs: atMs - this.#startedAtMs })
      })
    }
  }

  get samples(): readonly Sample[] {
    return this.#samples
  }

  /** @throws PostcopyError if the migration fails, or does not end */
  async run(): Promise<RunResult> {
    await sleep(WORK_MS)
    await this.#start()
    await this.#watch()
    return this.#conclude()
  }

  async #start(): Promise<void> {
    const { postcopyAfter } = this.#options
    const commands = Object.entries(this.#options.parameters ?? { 'max-bandwidth': '0' }).map(
      ([name, value]) => `migrate_set_parameter ${name} ${value}`,
    )
    if (typeof postcopyAfter === 'number') {
      commands.push(`migrate_set_parameter x-postcopy-after-ms ${postcopyAfter}`)
    }
    const uri = await this.#destination.migrateIncoming('tcp:127.0.0.1:0')
    this.#startedAtMs = performance.timeOrigin + performance.now()
    commands.push(`migrate -d ${uri}`)
    if (postcopyAfter === 'now') commands.push('migrate_start_postcopy')
    for (const command of commands) this.#options.onNote(`source> ${command}`)
    await Promise.all(commands.map((command) => this.#source.command(command)))
  }

  async #watch(): Promise<void> {
    for (let movedAt = performance.now(), before: Sample | undefined; ;) {
      const [source, destination] = await this.#ask()
      const sample = this.#samples.at(-1)
      if (isAtRest(source) && isAtRest(destination)) {
        if (source === 'completed' && destination === 'completed') return
        await this.#fail()
      }
      // One end has failed already: the other end learns of it in a moment, or never.
      const isLost = [source, destination].some(
        (status) => isAtRest(status) && status !== 'completed',
      )
      if (sample?.transferredBytes !== before?.transferredBytes) movedAt = performance.now()
      before = sample
      const stalledMs = performance.now() - movedAt
      if (isLost && stalledMs > 1000) await this.#fail()
      if (stalledMs > STALL_MS) await this.#fail(stalledMs)
      if (this.#options.postcopyAfter === 'never' && sample !== undefined) {
        this.#checkConvergence(sample)
      }
      await sleep(SAMPLE_MS)
    }
  }

  /** Takes a sample. @returns the states of both ends */
  async #ask(): Promise<[source: MigrationState, destination: MigrationState]> {
    const [source, destination, sourceCpus, destinationCpus] = await this.#inTime(
      Promise.all([
        this.#source.queryMigrate(),
        this.#destination.queryMigrate(),
        this.#source.queryCpus(),
        this.#destination.queryCpus(),
      ]),
    )
    const { status = 'none', ram } = source.value
    const touches = Math.max(
      ...[sourceCpus, destinationCpus].map(({ value }) =>
        value.reduce((sum, cpu) => sum + cpu.touches, 0),
      ),
    )
    const { atMs } = destinationCpus
    const last = this.#lastTouches ?? { touches, atMs: atMs - 1 }
    this.#lastTouches = { touches, atMs }
    if (ram !== undefined) {
      const previous = this.#samples.at(-1)
      const at = source.atMs - this.#startedAtMs
      const elapsedMs = Math.max(1, at - (previous?.atMs ?? 0))
      const sample: Sample = {
        atMs: at,
        status,
        transferredBytes: ram.transferred,
        remainingBytes: ram.remaining,
        totalBytes: ram.total,
        bytesPerSecond: ((ram.transferred - (previous?.transferredBytes ?? 0)) * 1000) / elapsedMs,
        faults: destination.value['x-faults'] ?? 0,
        rounds: ram['dirty-sync-count'],
        dirtyPagesPerSecond: ram['dirty-pages-rate'],
        touchesPerSecond:
          (Math.max(0, touches - last.touches) * 1000) / Math.max(1, atMs - last.atMs),
      }
      this.#samples.push(sample)
      this.#options.onSample(sample)
    }
    return [status, destination.value.status ?? 'none']
  }

  #checkConvergence(sample: Sample): void {
    const dirty = `${formatByteSize(sample.dirtyPagesPerSecond * 4096)}/s`
    const rate = `${formatByteSize(sample.bytesPerSecond)}/s`
    const limitMs = this.#options.precopyLimitMs ?? PRECOPY_LIMIT_MS
    if (sample.atMs > limitMs) {
      throw new PostcopyError(
        'ERR_DEMO_NOT_CONVERGED',
        `precopy did not end within ${limitMs / 1000} s: the guest dirties ${dirty}, ` +
          `${rate} can be sent. Let it write less (--workload with fewer writes=, a smaller hot= ` +
          'or a rate=), or switch to postcopy (--postcopy-after 500)',
      )
    }
    if (this.#hinted || sample.rounds < HINT_ROUNDS) return
    this.#hinted = true
    this.#options.onNote(
      `precopy has sent all memory and is in round ${sample.rounds}: the guest dirties ${dirty} ` +
        `while ${rate} are sent. At these rates precopy never ends; postcopy would end it at once.`,
    )
  }

  /**
   * @param stalledMs - if given, for how long there was no progress
   * @throws PostcopyError with the answers of both ends
   */
  async #fail(stalledMs?: number): Promise<never> {
    const why = stalledMs === undefined ? '' : `: ${this.#explainStall(stalledMs)}`
    const ends = await Promise.all(
      [this.#source, this.#destination].map(async (guest) => {
        const { value } = await this.#inTime(guest.queryMigrate())
        const why = value['error-desc'] === undefined ? '' : `: ${value['error-desc']}`
        return `${guest.role} ${value.status ?? 'none'}${why}`
      }),
    )
    throw new PostcopyError('ERR_DEMO_MIGRATION', `the migration failed: ${ends.join('; ')}${why}`)
  }

  /** @throws PostcopyError `ERR_DEMO_STALLED` if a guest's process does not answer */
  async #inTime<T>(work: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const why = this.#explainStall(STALL_MS)
        const text = `a guest process has not answered for ${STALL_MS / 1000} s: ${why}`
        reject(new PostcopyError('ERR_DEMO_STALLED', text))
      }, STALL_MS)
    })
    try {
      return await Promise.race([work, deadline])
    } finally {
      clearTimeout(timer)
    }
  }

  #explainStall(stalledMs: number): string {
    const pids = [this.#source.pid, this.#destination.pid]
    return explainStall(processorUse(this.#options.vcpus, pids), stalledMs)
  }

  async #conclude(): Promise<RunResult> {
    const touches = async (guest: GuestProcess): Promise<number> =>
      (await guest.queryCpus()).value.reduce((sum, cpu) => sum + cpu.touches, 0)
    const before = await touches(this.#source)
    const cpus = (await this.#destination.queryCpus()).value
    const isIdle = cpus.every(({ activity }) => activity === 'idle' || activity === 'finished')
    const deadline = performance.now() + RESUME_LIMIT_MS
    let after = before
    for (let until = performance.now() + WORK_MS; performance.now() < until || after === before;) {
      await sleep(SAMPLE_MS)
      await this.#ask()
      after = await touches(this.#destination)
      if (isIdle || performance.now() > deadline) break
    }
    await this.#destination.command('stop')
    this.#options.onNote('destination> stop')
    this.#options.onNote('destination> verify')
    const verify = await this.#destination.verify()
    const source = await this.#source.queryMigrate()
    const destination = await this.#destination.queryMigrate()
    const arrivals = await this.#destination.pageArrivals(this.#options.cells)
    const info = { ...destination.value, ...source.value }
    delete info['socket-address'] // the destination does not listen any more
    return {
      info,
      verify,
      workAfterSwitch: after - before,
      isIdle,
      samples: this.#samples,
      milestones: this.#milestones,
      arrivals,
    }
  }
}
