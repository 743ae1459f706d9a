/** Capabilities and parameters of QEMU's migration, changed for one migration and put back. */
import { PostcopyError } from '../errors.js'
import { UntrustedFields } from '../park/internal.js'
import type { QmpClient } from './qmp-client.js'

const CODE = 'ERR_QMP_PROTOCOL'

export interface WantedSettings {
  /** QEMU must have these capabilities. */
  readonly on: readonly string[]
  /** QEMU may lack these. */
  readonly off: readonly string[]
  /** Those that this QEMU does not have are left out. */
  readonly parameters: Readonly<Record<string, number | string>>
}

interface Capability {
  readonly capability: string
  readonly state: boolean
}

export class MigrationSettings {
  readonly #client: QmpClient
  #capabilities: readonly Capability[] = []
  #parameters: Readonly<Record<string, unknown>> = {}

  private constructor(client: QmpClient) {
    this.#client = client
  }

  /**
   * Sets what differs, and remembers what was set before. If QEMU refuses a part, the other parts
   * are put back.
   *
   * @throws PostcopyError `ERR_QEMU_CAPABILITY` if QEMU lacks one; QmpError
   */
  static async apply(client: QmpClient, wanted: WantedSettings): Promise<MigrationSettings> {
    const settings = new MigrationSettings(client)
    try {
      await settings.#setCapabilities(wanted)
      await settings.#setParameters(wanted.parameters)
      return settings
    } catch (error) {
      // The first error is the one to report.
      await settings.restore().catch(() => undefined)
      throw error
    }
  }

  /** Puts everything back. May be called twice. @throws QmpError if QEMU refuses */
  async restore(): Promise<void> {
    const [capabilities, parameters] = [this.#capabilities, this.#parameters]
    this.#capabilities = []
    this.#parameters = {}
    // First the parameters: QEMU checks some of them only if a capability is on.
    if (Object.keys(parameters).length > 0) {
      await this.#client.execute('migrate-set-parameters', parameters)
    }
    if (capabilities.length > 0) {
      await this.#client.execute('migrate-set-capabilities', { capabilities })
    }
  }

  async #setCapabilities({ on, off }: WantedSettings): Promise<void> {
    const answer = await this.#client.execute('query-migrate-capabilities')
    const states = new Map<string, boolean>()
    for (const value of Array.isArray(answer) ? (answer as unknown[]) : []) {
      const fields = new UntrustedFields(value, 'query-migrate-capabilities of QEMU', CODE)
      states.set(fields.text('capability'), fields.raw('state') === true)
    }
    const missing = on.find((name) => !states.has(name))
    if (missing !== undefined) {
      const text = `this QEMU has no migration capability ${missing}: use a newer QEMU`
      throw new PostcopyError('ERR_QEMU_CAPABILITY', text)
    }
    const changed = [
      // QEMU refuses combinations, so others are turned off first.
      ...off.filter((name) => states.get(name) === true).map((name) => capability(name, false)),
      ...on.filter((name) => states.get(name) === false).map((name) => capability(name, true)),
    ]
    if (changed.length === 0) return
    await this.#client.execute('migrate-set-capabilities', { capabilities: changed })
    this.#capabilities = changed
      .map(({ capability: name, state }) => capability(name, !state))
      .reverse()
  }

  async #setParameters(wanted: WantedSettings['parameters']): Promise<void> {
    const answer = await this.#client.execute('query-migrate-parameters')
    const now = new UntrustedFields(answer, 'query-migrate-parameters of QEMU', CODE)
    const changed = Object.entries(wanted).filter(([name, value]) => {
      const before = now.raw(name)
      return before !== undefined && before !== value
    })
    if (changed.length === 0) return
    const before = changed.map(([name]) => [name, now.raw(name)])
    await this.#client.execute('migrate-set-parameters', Object.fromEntries(changed))
    this.#parameters = Object.fromEntries(before) as Record<string, unknown>
  }
}

function capability(name: string, state: boolean): Capability {
  return { capability: name, state }
}
