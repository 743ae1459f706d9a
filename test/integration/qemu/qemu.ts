/** Real QEMU processes, driven over QMP; none outlives its test. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { cleanups } from '../../support/cleanup.js'

const DEADLINE_MS = 60_000

export class Qemu {
  /** Output of the guest on its serial port. */
  serial = ''
  /** Error messages of QEMU itself. */
  stderr = ''
  readonly child: ChildProcess
  readonly #monitor: Socket
  #received = ''
  #changed: (() => void)[] = []

  private constructor(child: ChildProcess, monitor: Socket) {
    this.child = child
    this.#monitor = monitor
    child.stdout?.setEncoding('latin1').on('data', (text: string) => {
      this.serial += text
      this.#wake()
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
    child.on('exit', () => this.#wake())
    monitor.setEncoding('utf8').on('data', (text: string) => {
      this.#received += text
      this.#wake()
    })
    monitor.on('error', () => undefined).on('close', () => this.#wake())
  }

  /** @param folder - for its monitor's socket */
  static async start(folder: string, args: readonly string[]): Promise<Qemu> {
    counter += 1
    const path = join(folder, `qmp-${counter}`)
    const common = ['-accel', 'tcg', '-nodefaults', '-display', 'none', '-serial', 'stdio']
    const child = spawn(
      'qemu-system-x86_64',
      [...common, '-qmp', `unix:${path},server=on,wait=off`, ...args],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    )
    let complaint = ''
    child.stderr.on('data', (text: Buffer) => {
      complaint += text.toString()
    })
    const ended = once(child, 'exit')
    cleanups.add(async () => {
      child.kill('SIGKILL')
      await ended
    })
    for (;;) {
      const monitor = createConnection(path)
      try {
        await once(monitor, 'connect')
        const qemu = new Qemu(child, monitor)
        await qemu.execute('qmp_capabilities')
        return qemu
      } catch {
        if (child.exitCode !== null) throw new Error(`QEMU ended: ${complaint}`)
        await sleep(20)
      }
    }
  }

  /** Starts a QEMU that waits for a guest by postcopy; returns it with its URI. */
  static async incoming(
    folder: string,
    args: readonly string[],
    capabilities: readonly string[] = ['postcopy-ram'],
  ): Promise<{ qemu: Qemu; uri: string }> {
    const qemu = await Qemu.start(folder, [...args, '-incoming', 'defer'])
    await qemu.enable(...capabilities)
    const uri = `unix:${join(folder, `incoming-${counter}`)}`
    await qemu.execute('migrate-incoming', { uri })
    return { qemu, uri }
  }

  get pid(): number {
    return this.child.pid ?? -1
  }

  get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null
  }

  /** Sends one command and waits for its answer; events are dropped. */
  async execute(command: string, args: object = {}): Promise<unknown> {
    this.#monitor.write(`${JSON.stringify({ execute: command, arguments: args })}\n`)
    for (;;) {
      const end = this.#received.indexOf('\n')
      if (end < 0) {
        if (this.hasEnded) throw new Error(`QEMU ended at ${command}: ${this.stderr}`)
        await this.#change()
        continue
      }
      const answer = JSON.parse(this.#received.slice(0, end)) as Record<string, unknown>
      this.#received = this.#received.slice(end + 1)
      if ('error' in answer) throw new Error(`${command}: ${JSON.stringify(answer['error'])}`)
      if ('return' in answer) return answer['return']
    }
  }

  async enable(...capabilities: readonly string[]): Promise<void> {
    await this.execute('migrate-set-capabilities', {
      capabilities: capabilities.map((capability) => ({ capability, state: true })),
    })
  }

  async limit(parameters: Record<string, number>): Promise<void> {
    await this.execute('migrate-set-parameters', parameters)
  }

  async migrationStatus(): Promise<string> {
    const info = (await this.execute('query-migrate')) as { status?: string }
    return info.status ?? 'none'
  }

  /** Waits until `query-migrate` reports one of these. */
  async reached(...statuses: readonly string[]): Promise<string> {
    const deadline = Date.now() + DEADLINE_MS
    for (;;) {
      const status = await this.migrationStatus()
      if (statuses.includes(status)) return status
      if (Date.now() > deadline) throw new Error(`${status}, never ${statuses.join(', ')}`)
      await sleep(10)
    }
  }

  /** Waits until the guest runs. */
  async runs(): Promise<void> {
    const deadline = Date.now() + DEADLINE_MS
    for (;;) {
      const { status } = (await this.execute('query-status')) as { status: string }
      if (status === 'running') return
      if (Date.now() > deadline) throw new Error(`still ${status}`)
      await sleep(5)
    }
  }

  /** Waits until the guest's output matches, from offset `after` on. */
  async says(pattern: RegExp, after = 0): Promise<RegExpExecArray> {
    const deadline = Date.now() + DEADLINE_MS
    for (;;) {
      const match = pattern.exec(this.serial.slice(after))
      if (match !== null) return match
      if (this.hasEnded || Date.now() > deadline) {
        throw new Error(`the guest never printed ${String(pattern)}: ${this.serial} ${this.stderr}`)
      }
      await Promise.race([this.#change(), sleep(200)])
    }
  }

  /** Waits for the process to end by itself. */
  async ends(): Promise<void> {
    while (!this.hasEnded) await Promise.race([this.#change(), sleep(200)])
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL')
    await this.ends()
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#changed.push(resolve))
  }

  #wake(): void {
    for (const resolve of this.#changed.splice(0)) resolve()
  }
}

let counter = 0
