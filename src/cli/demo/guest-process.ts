/** A `postcopy guest --json` of our own, driven by its monitor on stdin and stdout. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { PostcopyError } from '../../errors.js'
import type { VcpuStats, VerifyReport } from '../../guest/index.js'
import type { MigrationState } from '../../migration/states.js'
import type { BlockArrivals, MigrationInfo } from '../../monitor/index.js'

const MAIN = fileURLToPath(new URL('../main.js', import.meta.url))
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
  | { event: string; data: { status?: MigrationState; uri?: string } }
)

/** An answer, and when it was given: milliseconds since the epoch, with fractions. */
export interface Answer<T> {
  readonly value: T
  readonly atMs: number
}

interface GuestProcessEvents {
  migration: [status: MigrationState, atMs: number]
}

export class GuestProcess extends EventEmitter<GuestProcessEvents> {
  readonly role: 'source' | 'destination'
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>
  readonly #waiting: {
    resolve: (answer: Answer<unknown>) => void
    reject: (error: Error) => void
  }[] = []
  readonly #exited: Promise<unknown>
  #failure: PostcopyError | undefined
  #stderr = ''
  #ending = false

  constructor(role: 'source' | 'destination', args: readonly string[]) {
    super()
    this.role = role
    this.#child = spawn(process.execPath, [MAIN, 'guest', '--json', ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    this.#exited = once(this.#child, 'close')
    this.#exited.catch(() => undefined)
    this.#child.on('error', (error) => this.#lost(error.message))
    this.#child.on('close', (status, signal) => {
      this.#lost(
        this.#stderr.trim().replaceAll(/^postcopy: /gm, '') || `status ${signal ?? String(status)}`,
      )
    })
    // A write to a guest that has just ended: its end says more.
    this.#child.stdin.on('error', () => undefined)
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_TAIL)
    })
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#line(line))
  }

  get pid(): number {
    return this.#child.pid ?? -1
  }

  /**
   * Runs one line of the monitor.
   *
   * @throws PostcopyError with the code and message of the command, or `ERR_GUEST_PROCESS`
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
    return ((await this.command(`migrate_incoming ${uri}`)).value as { uri: string }).uri
  }

  /** Asks it to end, and kills it if that takes too long. May be called twice. */
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

  /** At once, whatever it does: a guest that is parked on a page cannot listen. */
  kill(): void {
    this.#ending = true
    this.#child.kill('SIGKILL')
  }

  #line(text: string): void {
    const line = JSON.parse(text) as Line
    const atMs = line.timestamp.seconds * 1000 + line.timestamp.microseconds / 1000
    if ('event' in line) {
      const { status } = line.data
      if (line.event === 'MIGRATION' && status !== undefined) this.emit('migration', status, atMs)
      return
    }
    const waiting = this.#waiting.shift()
    if ('return' in line) waiting?.resolve({ value: line.return, atMs })
    else waiting?.reject(new PostcopyError(line.error.code, `${this.role}: ${line.error.desc}`))
  }

  #lost(why: string): void {
    this.#failure ??= new PostcopyError(
      'ERR_GUEST_PROCESS',
      `the ${this.role}'s process ended${this.#ending ? '' : ` unexpectedly: ${why}`}`,
    )
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure)
  }
}
