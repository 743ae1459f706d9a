/** State of a VM and of its migration, by QMP. */
import { EventEmitter, once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { PostcopyError } from '../errors.js'
import { UntrustedFields } from '../park/internal.js'
import { parseDisks, type Disk } from './disks.js'
import type { QmpClient } from './qmp-client.js'

const CODE = 'ERR_QMP_PROTOCOL'
/** QEMU reports a change by an event, too. */
const POLL_MS = 100

export interface MigrationStatus {
  /** `none` before the first migration. */
  readonly status: string
  /** QEMU's own reason for a failure. */
  readonly errorDesc?: string
}

export class VmMonitor {
  readonly client: QmpClient
  readonly #changes = new EventEmitter<{ change: [] }>()

  constructor(client: QmpClient) {
    this.client = client
    const changed = (): void => void this.#changes.emit('change')
    client.on('event', changed)
    client.on('close', changed)
  }

  /** `running`, `paused`, `postmigrate`, … */
  async runState(): Promise<string> {
    return (await this.#query('query-status')).text('status')
  }

  async migration(): Promise<MigrationStatus> {
    const fields = await this.#query('query-migrate')
    const [status, desc] = [fields.raw('status'), fields.raw('error-desc')]
    return {
      status: typeof status === 'string' ? status : 'none',
      ...(typeof desc === 'string' ? { errorDesc: desc } : {}),
    }
  }

  /**
   * Waits until the migration has one of these statuses.
   *
   * @param signal - ends the wait
   * @throws QmpError if QEMU ends; the reason of the signal
   */
  async reached(statuses: readonly string[], signal?: AbortSignal): Promise<MigrationStatus> {
    for (;;) {
      signal?.throwIfAborted()
      const now = await this.migration()
      if (statuses.includes(now.status)) return now
      await this.#changeOrPoll()
    }
  }

  async disks(): Promise<Disk[]> {
    return parseDisks(await this.client.execute('query-block'))
  }

  /** vCPUs, and how many there may be; the latter is 0 if the machine has no hotplug. */
  async vcpus(): Promise<{ vcpus: number; maxVcpus: number }> {
    const now = await this.client.execute('query-cpus-fast')
    let all: unknown
    try {
      all = await this.client.execute('query-hotpluggable-cpus')
    } catch (error) {
      if (!(error instanceof PostcopyError) || error.code !== 'ERR_QMP_REFUSED') throw error
    }
    const slots: unknown[] = Array.isArray(all) ? all : []
    const maxVcpus = slots
      .map((slot) => new UntrustedFields(slot, 'query-hotpluggable-cpus of QEMU', CODE))
      .reduce((sum, slot) => sum + slot.count('vcpus-count'), 0)
    return { vcpus: Array.isArray(now) ? now.length : 0, maxVcpus }
  }

  async #query(command: string): Promise<UntrustedFields> {
    return new UntrustedFields(await this.client.execute(command), `${command} of QEMU`, CODE)
  }

  async #changeOrPoll(): Promise<void> {
    const end = new AbortController()
    const { signal } = end
    await Promise.race([
      once(this.#changes, 'change', { signal }),
      sleep(POLL_MS, undefined, { signal }),
    ]).finally(() => end.abort())
  }
}
