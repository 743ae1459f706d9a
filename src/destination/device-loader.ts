/**
 * Loads the devices on the main thread and runs the guest. A device may touch missing guest RAM:
 * this thread then waits until the destination's worker has placed the page.
 */
import { type ErrorRecord, PostcopyError, StateError } from '../errors.js'
import {
  callHook,
  checkTaken,
  checkThreadIds,
  type MigratableMachine,
  type MigrationState,
} from '../migration/index.js'
import {
  type Reader,
  type SectionHeader,
  decodeDeviceSections,
  decodePackage,
  findPackagePings,
  PingValue,
} from '../stream/index.js'
import type { Claim } from './claim.js'
import type { DestinationRequest } from './protocol.js'

/** Added to the error, because the source cannot tell this to its user. */
const NO_WAY_BACK =
  '. The source did not wait until its devices were loaded (QEMU before 10.2 does not): its guest ' +
  'stays stopped there in postcopy-paused, and cont fails. Start the guest again from its disk or a snapshot; ' +
  'with precopy, the source can resume the guest if loading the devices fails'

export interface DeviceLoaderHost {
  post(request: DestinationRequest): void
  state(): MigrationState
  /** The owner has ended the migration: no worker would place the pages that devices touch. */
  isEnded(): boolean
  /** Records the kernel thread ids of the vCPUs, before they run. */
  setVcpus(threadIds: readonly number[]): void
  /** A copy for the worker, see `Migration.recordHookError`. */
  record(error: unknown): ErrorRecord
}

export class DeviceLoader {
  readonly #machine: MigratableMachine
  readonly #claim: Claim
  readonly #host: DeviceLoaderHost
  /** Why this machine rejects the incoming guest: nothing more of it is loaded. */
  #refusal: ErrorRecord | undefined
  #startFailure: ErrorRecord | undefined
  /** What a failure to load the devices means at the source, if its user has to know. */
  #endsAtSource = ''

  constructor(machine: MigratableMachine, claim: Claim, host: DeviceLoaderHost) {
    this.#machine = machine
    this.#claim = claim
    this.#host = host
  }

  /** Why the machine did not start although the guest is here. */
  get startFailure(): ErrorRecord | undefined {
    return this.#startFailure
  }

  checkConfiguration(machineType: string, raw: Uint8Array): void {
    this.#load(() => {
      callHook('checkConfiguration', () => this.#machine.checkConfiguration?.(machineType, raw))
    })
  }

  loadPackage(blob: Uint8Array, streamOffset: number): void {
    this.#load(() => {
      // Checks the whole package first, because the last pong commits this end to run the guest.
      const { devices, pings } = findPackagePings(blob, streamOffset)
      if (!pings.includes(PingValue.packageLoaded)) this.#endsAtSource = NO_WAY_BACK
      if (this.#machine.loadOpaque !== undefined) {
        this.#loadOpaque(devices)
        for (const value of pings) this.#pong(value)
        this.#run()
        return
      }
      decodePackage(
        blob,
        {
          device: (header, body) => this.#loadDevice(header, body, blob, streamOffset),
          ping: (value) => this.#pong(value),
          run: () => this.#run(),
        },
        streamOffset,
      )
    })
  }

  loadDevices(sections: Uint8Array, streamOffset: number): void {
    this.#load(() => {
      const load = (header: SectionHeader, body: Reader): void =>
        this.#loadDevice(header, body, sections, streamOffset)
      if (this.#machine.loadOpaque === undefined) {
        decodeDeviceSections(sections, load, streamOffset)
      } else this.#loadOpaque(sections)
      this.#run()
    })
  }

  #load(load: () => void): void {
    if (this.#refusal !== undefined || this.#host.isEnded()) return
    try {
      load()
    } catch (error) {
      if (this.#claim.giveBack()) {
        // The error may be changed, because every error of the package is created in this call.
        if (error instanceof PostcopyError) error.message += this.#endsAtSource
        this.#refusal = this.#host.record(error)
        this.#host.post({ type: 'load-failed', error: this.#refusal })
      } else void this.#startFailed(error)
    }
  }

  /**
   * The source was told that the guest is here, and vCPUs may have run. So the guest stays here,
   * stopped again, and all its pages are received.
   */
  async #startFailed(error: unknown): Promise<void> {
    this.#startFailure = this.#host.record(error)
    try {
      await this.#machine.stop()
    } catch {
      // vCPUs that still run wait for missing pages as usual; the owner sees it from `running`.
    }
    this.#host.post({ type: 'guest-running' })
  }

  #loadDevice(header: SectionHeader, body: Reader, bytes: Uint8Array, streamOffset: number): void {
    const { idstr, instanceId, version } = header
    const data = bytes.subarray(body.streamOffset - streamOffset)
    const taken = callHook(
      'loadDevice',
      () => this.#machine.loadDevice(idstr, instanceId, version, data),
      `${JSON.stringify(idstr)}, ${instanceId}, ${version}`,
    )
    body.bytes(checkTaken(taken, data.length, idstr))
  }

  #loadOpaque(sections: Uint8Array): void {
    callHook('loadOpaque', () => this.#machine.loadOpaque?.(sections))
  }

  #pong(value: number): void {
    if (value === PingValue.packageLoaded) this.#claimGuest()
    this.#host.post({ type: 'pong', value })
  }

  /** Claims the guest for this end, unless the worker has given it back before. */
  #claimGuest(): void {
    if (this.#claim.isTaken) return
    callHook('finishLoading', () => this.#machine.finishLoading?.())
    const threadIds = callHook('vcpuThreadIds', () => this.#machine.vcpuThreadIds())
    this.#host.setVcpus(checkThreadIds(threadIds))
    if (!this.#claim.take()) {
      throw new StateError(
        'ERR_STATE_MIGRATION_LOST',
        'the migration failed while its devices were loaded: the guest stays at the source',
        this.#host.state(),
      )
    }
  }

  #run(): void {
    this.#claimGuest()
    callHook('resumeAfterLoad', () => this.#machine.resumeAfterLoad())
    this.#host.post({ type: 'guest-running' })
  }
}
