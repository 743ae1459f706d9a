/** A QEMU with a small machine that runs our own firmware, driven by QMP. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { QmpClient } from '../support/qmp-client.js'
import { firmware } from './firmware.js'

const MACHINE = ['-accel', 'tcg', '-machine', 'pc', '-m', '16', '-nodefaults', '-display', 'none']

/** One process and its monitor. */
export class Qemu {
  readonly qmp: QmpClient
  readonly #child: ChildProcess

  private constructor(child: ChildProcess, qmp: QmpClient) {
    this.#child = child
    this.qmp = qmp
  }

  /** @param args - besides the machine, which is the same for both ends */
  static async start(directory: string, name: string, args: readonly string[]): Promise<Qemu> {
    const path = `${directory}/${name}.qmp`
    const qmp = ['-qmp', `unix:${path},server=on,wait=off`]
    writeFileSync(`${directory}/${name}.bin`, firmware())
    const bios = ['-bios', `${directory}/${name}.bin`]
    const child = spawn('qemu-system-x86_64', [...MACHINE, ...bios, ...qmp, ...args], {
      stdio: ['ignore', 'inherit', 'inherit'],
    })
    for (;;) {
      try {
        return new Qemu(child, await QmpClient.connect({ path }))
      } catch (error) {
        if (child.exitCode !== null) throw error
        await sleep(50)
      }
    }
  }

  execute(command: string, args: object = {}): Promise<unknown> {
    return this.qmp.execute(command, args)
  }

  enable(...capabilities: string[]): Promise<void> {
    return this.qmp.enable(...capabilities)
  }

  /** Waits until `query-migrate` reports this status. */
  async reached(status: string): Promise<void> {
    await this.qmp.reached(status)
  }

  async stop(): Promise<void> {
    this.qmp.close()
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.kill('SIGKILL')
    await once(this.#child, 'exit')
  }
}
