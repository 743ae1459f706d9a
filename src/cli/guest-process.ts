/** A child process `postcopy guest --json`, controlled by its monitor on stdin and stdout. */
import { bundledEntry } from '../kernel/internal.js'
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { PostcopyError } from '../errors.js'
import type { VcpuStats, VerifyReport } from '../guest/index.js'
import type { MigrationState } from '../migration/index.js'
import type { BlockArrivals, MigrationInfo } from '../monitor/index.js'

const MAIN = fileURLToPath(bundledEntry('cli/main'))
/** The last line of a command that fails: the message, and its code. */
const LAST_LINE = /^([^]*) \[([A-Z][A-Z\d_]*)\]$/
/** How long `quit` may take before the process is killed. */
const QUIT_MS = 3000
const STDERR_TAIL = 4000

interface Timestamp {
  seconds: number
  microseconds: number
}

type Line = { timestamp: Timestamp } & (
  | { return: unknown }
  | { error: { code: string; desc: string } }
  | { event: string; data: { status?: MigrationState; role?: Role; 'error-desc'?: string } }
)

/** A guest that has arrived may leave again: a process can have both roles, one after the other. */
export type Role = 'source' | 'destination'

/** An answer and its time, in milliseconds since the epoch, with fractions. */
export interface Answer<T> {
  readonly value: T
  readonly atMs: number
}

interface GuestProcessEvents {
  migration: [status: MigrationState, atMs: number, role: Role, why: string | undefined]
  /** The state in a role has changed, or the process has ended. */
  changed: []
}

export interface GuestProcessOptions {
  /** The name in errors; default: the role. */
  readonly name?: string
  /** Default: that of `node:child_process`. */
  readonly spawn?: (command: string, args: readonly string[]) => ChildProcessWithoutNullStreams
}

export class GuestProcess extends EventEmitter<GuestProcessEvents> {
  readonly role: Role
  readonly name: string
  readonly #child: ChildProcessWithoutNullStreams
  readonly #states: Record<Role, MigrationState> = { source: 'none', destination: 'none' }
  readonly #waiting: {
    resolve: (answer: Answer<unknown>) => void
    reject: (error: Error) => void
  }[] = []
  readonly #exited: Promise<unknown>
  #failure: PostcopyError | undefined
  #crash: PostcopyError | undefined
  #stderr = ''
  #ending = false

  constructor(role: Role, args: readonly string[], options: GuestProcessOptions = {}) {
    super()
    this.role = role
    this.name = options.name ?? role
    const start = options.spawn ?? spawn
    this.#child = start(process.execPath, [MAIN, 'guest', '--json', ...args])
    this.#exited = once(this.#child, 'close')
    this.#exited.catch(() => undefined)
    this.#child.on('error', (error) => this.#lost(error.message))
    this.#child.on('close', (status, signal) => {
      this.#lost(
        this.#stderr.trim().replaceAll(/^postcopy: /gm, '') || `status ${signal ?? String(status)}`,
      )
    })
    // A write to a guest that has just ended: the exit explains more than this error.
    this.#child.stdin.on('error', () => undefined)
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_TAIL)
    })
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#line(line))
  }

  get pid(): number {
    return this.#child.pid ?? -1
  }

  /** The state of its last migration in this role. */
  state(role: Role): MigrationState {
    return this.#states[role]
  }

  /** Why the process ended by itself; undefined if it did not. */
  get crash(): PostcopyError | undefined {
    return this.#crash
  }

  /** Whether the process runs. */
  get isAlive(): boolean {
    return this.#failure === undefined
  }

  /**
   * Runs one line of the monitor.
   *
   * @throws PostcopyError with the code and message of the command, or of the process' last line;
   *   `ERR_GUEST_PROCESS` if that line has none
   */
  command(line: string): Promise<Answer<unknown>> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure)
        return
      }
      this.#waiting.push({ resolve, reject })
      this.#child.stdin.write(`${line}\n`)
    })
  }

  async queryMigrate(): Promise<Answer<MigrationInfo>> {
    return (await this.command('info migrate')) as Answer<MigrationInfo>
  }

  async queryCpus(): Promise<Answer<VcpuStats[]>> {
    return (await this.command('info cpus')) as Answer<VcpuStats[]>
  }

  async pageArrivals(cells: number): Promise<BlockArrivals[]> {
    return (await this.command(`info page_arrivals ${cells}`)).value as BlockArrivals[]
  }

  async verify(): Promise<VerifyReport> {
    return (await this.command('verify')).value as VerifyReport
  }

  /** @returns where it listens */
  async migrateIncoming(uri: string): Promise<string> {
    const answer = await this.#begin('destination', 'setup', `migrate_incoming ${uri}`)
    return (answer.value as { uri: string }).uri
  }

  /** Recovers a paused incoming migration. @returns where it listens */
  async migrateRecover(uri: string): Promise<string> {
    const command = `migrate_recover ${uri}`
    const answer = await this.#begin('destination', 'postcopy-recover-setup', command)
    return (answer.value as { uri: string }).uri
  }

  /** Begins an outgoing migration, or continues a paused one. */
  async migrate(uri: string, options: { resume?: boolean } = {}): Promise<void> {
    if (options.resume === true) {
      await this.#begin('source', 'postcopy-recover-setup', `migrate -d -r ${uri}`)
    } else await this.#begin('source', 'setup', `migrate -d ${uri}`)
  }

  /**
   * Sets the state until the first event of the new migration, so that the old state is not
   * reported.
   */
  async #begin(role: Role, state: MigrationState, command: string): Promise<Answer<unknown>> {
    const before = this.#states[role]
    this.#states[role] = state
    try {
      return await this.command(command)
    } catch (error) {
      this.#states[role] = before
      throw error
    }
  }

  /**
   * Waits until a migration is in one of these states, or its process has ended.
   *
   * @returns the state; undefined if the process has ended
   * @throws PostcopyError `ERR_GUEST_PROCESS` if that takes too long
   */
  async reached(
    role: Role,
    wanted: readonly MigrationState[],
    limitMs = 60_000,
  ): Promise<MigrationState | undefined> {
    const signal = AbortSignal.timeout(limitMs)
    while (this.isAlive && !wanted.includes(this.#states[role])) {
      try {
        await once(this, 'changed', { signal })
      } catch (cause) {
        const [are, want] = [this.#states[role], wanted.join(' or ')]
        const text = `${this.name} is ${are} and not ${want} after ${limitMs} ms`
        throw new PostcopyError('ERR_GUEST_PROCESS', text, { cause })
      }
    }
    return this.isAlive ? this.#states[role] : undefined
  }

  /** Asks the process to end, and kills it if that takes too long. May be called twice. */
  async end(): Promise<void> {
    this.#ending = true
    if (this.#failure === undefined) {
      this.command('quit -f').catch(() => undefined)
      this.#child.stdin.end()
    }
    const timer = setTimeout(() => this.kill(), QUIT_MS)
    await this.#exited.catch(() => undefined)
    clearTimeout(timer)
  }

  /** Kills the process at once. One that is parked on a page cannot read commands. */
  kill(): void {
    this.#ending = true
    this.#child.kill('SIGKILL')
  }

  #line(text: string): void {
    const line = JSON.parse(text) as Line
    const atMs = line.timestamp.seconds * 1000 + line.timestamp.microseconds / 1000
    if ('event' in line) {
      const { status, role = this.role, 'error-desc': why } = line.data
      if (line.event !== 'MIGRATION' || status === undefined) return
      this.#states[role] = status
      this.emit('migration', status, atMs, role, why)
      this.emit('changed')
      return
    }
    const waiting = this.#waiting.shift()
    if ('return' in line) waiting?.resolve({ value: line.return, atMs })
    else waiting?.reject(new PostcopyError(line.error.code, `${this.name}: ${line.error.desc}`))
  }

  #lost(why: string): void {
    if (this.#failure !== undefined) return
    // The last line of the process has its own error code, which becomes the code of this command.
    const [, reason = why, code = 'ERR_GUEST_PROCESS'] = this.#ending
      ? []
      : (LAST_LINE.exec(why) ?? [])
    this.#failure = new PostcopyError(
      code,
      `the ${this.name}'s process ended${this.#ending ? '' : ` unexpectedly: ${reason}`}`,
    )
    if (!this.#ending) this.#crash = this.#failure
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure)
    this.emit('changed')
  }
}
