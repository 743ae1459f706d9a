/** A real QEMU for benchmarks. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { PostcopyError } from '../errors.js'
import { QmpClient } from '../qemu/index.js'

/** The longest that a benchmark waits for one thing. */
const DEADLINE_MS = 120_000

/** A QMP event. */
export interface QmpEvent {
  readonly event: string
  readonly data?: Readonly<Record<string, unknown>>
  /** When it arrived, on the clock of `performance.now()`. */
  readonly atMs: number
}

/** One character that the guest has written to its serial port. */
export interface SerialCharacter {
  readonly character: string
  /** When it arrived, on the clock of `performance.now()`. */
  readonly atMs: number
}

/** Why a benchmark with QEMU could not be run. */
export const NO_QEMU = 'a comparison with QEMU needs the Debian package qemu-system-x86'

export function hasQemu(): boolean {
  return spawnSync('qemu-system-x86_64', ['--version'], { stdio: 'ignore' }).status === 0
}

/** A QEMU driven by QMP; `close` kills it. */
export class Vm {
  readonly events: QmpEvent[] = []
  /** Empty without `-serial stdio`. */
  readonly serial: SerialCharacter[] = []
  readonly #process: ChildProcess
  readonly #client: QmpClient
  readonly #changes = new EventEmitter<{ change: [] }>()

  private constructor(process: ChildProcess, client: QmpClient) {
    this.#process = process
    this.#client = client
    client.on('event', ({ event, data }) => {
      this.events.push({ event, data, atMs: performance.now() })
      this.#changes.emit('change')
    })
    process.stdout?.setEncoding('latin1').on('data', (text: string) => {
      const atMs = performance.now()
      for (const character of text) this.serial.push({ character, atMs })
      this.#changes.emit('change')
    })
    process.on('exit', () => this.#changes.emit('change'))
  }

  static async start(folder: string, args: readonly string[]): Promise<Vm> {
    const path = join(folder, `qmp-${process.hrtime.bigint()}`)
    const common = ['-accel', 'tcg', '-nodefaults', '-display', 'none', '-machine', 'pc']
    const child = spawn(
      'qemu-system-x86_64',
      [...common, '-qmp', `unix:${path},server=on,wait=off`, ...args],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    child.on('error', () => undefined)
    const kill = (): void => void child.kill('SIGKILL')
    process.once('exit', kill)
    child.once('exit', () => process.off('exit', kill))
    for (;;) {
      try {
        return new Vm(child, await QmpClient.connect(path, { timeoutMs: DEADLINE_MS }))
      } catch {
        if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) {
          throw new PostcopyError(
            'ERR_BENCH',
            'QEMU did not start: install the Debian package qemu-system-x86',
          )
        }
        await sleep(10)
      }
    }
  }

  async execute(command: string, args: object = {}): Promise<Record<string, unknown>> {
    return (await this.#client.execute(command, args)) as Record<string, unknown>
  }

  async enable(...capabilities: readonly string[]): Promise<void> {
    await this.execute('migrate-set-capabilities', {
      capabilities: capabilities.map((capability) => ({ capability, state: true })),
    })
  }

  async until(command: string, status: string): Promise<void> {
    while ((await this.execute(command))['status'] !== status) await sleep(1)
  }

  /** Waits for events and characters, without sending QEMU queries, which would slow it down. */
  async when(what: string, ready: () => boolean): Promise<void> {
    const signal = AbortSignal.timeout(DEADLINE_MS)
    while (!ready()) {
      if (this.#hasEnded) throw new PostcopyError('ERR_BENCH', `QEMU ended before it ${what}`)
      try {
        await once(this.#changes, 'change', { signal })
      } catch (cause) {
        throw new PostcopyError('ERR_BENCH', `QEMU never ${what}`, { cause })
      }
    }
  }

  async close(): Promise<void> {
    if (this.#hasEnded) return
    const exit = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await exit
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  get #hasEnded(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null
  }
}
