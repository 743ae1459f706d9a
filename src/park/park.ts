/** The user's view of parking: starts the worker, and reports what it does. */
import { once } from 'node:events'
import { PostcopyError, errorFromRecord, errorToRecord } from '../errors.js'
import { bundledEntry } from '../kernel/internal.js'
import { formatUri, parseUri, serverCredentials } from '../net/index.js'
import {
  checkOptionNames,
  closedByOwner,
  isAtRest,
  MigrationEnd,
  type Parameters,
  resolveOptions,
  WorkerThread,
} from '../migration/index.js'
import { assertNever } from '../units.js'
import type { Manifest } from './manifest.js'
import type { TrustOptions } from './trusted-directory.js'
import type { ParkNotice, ParkOrigin, ParkRequest, ParkWorkerData } from './protocol.js'

interface ParkSettings extends TrustOptions {
  /** Where the VM is written. Must not exist yet; its parent must. */
  directory: string
  /** `x-max-package-bytes` limits the device state; `tls-creds` decides who may connect. */
  parameters?: Partial<Parameters>
}

export interface ParkOptions extends ParkSettings {
  /** Where to listen: `tcp:HOST:PORT` (port 0: the kernel picks one) or `unix:PATH`. */
  uri: string
}

export interface ParkFileOptions extends ParkSettings {
  /**
   * What QEMU or libvirt has saved, see docs/saved-vms.md. May be a pipe with a stream; `-`: standard
   * input.
   */
  file: string
  /** Where the saved VM begins in the file, in bytes; default 0. */
  offset?: number
  /** Name or id of a snapshot in a qcow2 image. */
  snapshot?: string
  /** Files of RAM blocks that x-ignore-shared has left out, as for `openSaved`. */
  memory?: ReadonlyMap<string, string>
}

/**
 * A VM that is moved from a QEMU to a directory, begun by {@link Park.listen} or
 * {@link Park.fromFile}.
 *
 * `done` resolves when the VM is on disk and its source, if there is one, was told. If a migration
 * fails before the device state is on disk, nothing is left. After that it becomes
 * `postcopy-paused`: the received pages are in `DIR.incomplete`, and the source still has the
 * others.
 */
export class Park extends MigrationEnd<ParkRequest, ParkNotice> {
  #isListening = false
  #manifest: Manifest | undefined
  #isKeptWhole = false

  /**
   * Resolves when a source may connect.
   *
   * @throws PostcopyError `ERR_PARKED_EXISTS`, `ERR_PARKED_UNTRUSTED`, `ERR_TLS_CREDENTIALS`;
   *   ConnectionError if it cannot listen
   */
  static async listen(options: ParkOptions): Promise<Park> {
    const park = new Park({ uri: parseUri(options.uri) }, options)
    await Promise.race([once(park, 'listening'), park.done])
    return park
  }

  /**
   * Continues a postcopy that broke off: QEMU is `postcopy-paused`, and its user will call
   * `migrate -r` (QMP: `resume`). Resolves when the source may connect. If no page is missing any
   * more, it resolves when DIR exists, without a connection (`uri` is undefined).
   *
   * @param options - `directory`: `DIR.incomplete`, which becomes DIR
   * @throws PostcopyError `ERR_PARKED_FORMAT`, `ERR_PARKED_DAMAGED`, `ERR_PARKED_UNTRUSTED`, …
   */
  static async recover(options: ParkOptions): Promise<Park> {
    const park = new Park({ uri: parseUri(options.uri) }, options, true)
    await Promise.race([once(park, 'listening'), park.done])
    return park
  }

  /** Begins to read at once. */
  static fromFile(options: ParkFileOptions): Park {
    const { file, offset, snapshot, memory } = options
    const where = {
      ...(offset === undefined ? {} : { offset }),
      ...(snapshot === undefined ? {} : { snapshot }),
      ...(memory === undefined ? {} : { memory }),
    }
    return new Park({ file, ...where }, options)
  }

  private constructor(origin: ParkOrigin, options: ParkSettings, isRecovery = false) {
    const place = 'uri' in origin ? ['uri'] : ['file', 'offset', 'snapshot', 'memory']
    checkOptionNames(options, [...place, 'directory', 'parameters', 'allowForeignDirectory'])
    const { parameters } = resolveOptions({ parameters: options.parameters ?? {} })
    super({ uri: 'uri' in origin ? formatUri(origin.uri) : undefined, parameters })
    const workerData: ParkWorkerData = {
      origin,
      tls: 'uri' in origin ? serverCredentials(parameters) : undefined,
      directory: options.directory,
      isRecovery,
      allowForeignDirectory: options.allowForeignDirectory ?? false,
      parameters,
      counters: this.counters.buffer,
    }
    const events = {
      notice: (notice: ParkNotice) => this.#notice(notice),
      ended: (cause: unknown) => this.#workerLost(cause),
    }
    // The worker hands a pipe that it opens to a socket, which closes it.
    this.setWorker(
      new WorkerThread(bundledEntry('park/worker'), 'park', workerData, events, {
        trackUnmanagedFds: false,
      }),
    )
  }

  /** Where it listens, with the port that the kernel picked; undefined before that. */
  get uri(): string | undefined {
    return this.#isListening ? this.currentUri : undefined
  }

  /** The manifest of the directory, once it is complete. */
  get manifest(): Manifest | undefined {
    return this.#manifest
  }

  /**
   * Whether it is `postcopy-paused` and every page is in `DIR.incomplete`. Then
   * {@link Park.recover} finishes it without a source.
   */
  get isKeptWhole(): boolean {
    return this.#isKeptWhole
  }

  /** Gives up, as if the connection had broken. Does nothing when it is over. */
  stop(): void {
    this.#stop(new PostcopyError('ABORT_ERR', 'parking was stopped by a command or a signal'))
  }

  /**
   * Gives up unless it is over, and ends the worker. A pending `done` rejects with `ERR_CLOSED`.
   * May be called twice.
   */
  async close(): Promise<void> {
    const reason = closedByOwner('park')
    this.endByOwner(reason)
    this.#stop(reason)
    await this.worker?.ended
    this.settleByOwner()
  }

  #stop(reason: PostcopyError): void {
    if (isAtRest(this.state)) return
    this.post({ type: 'stop', error: errorToRecord(reason) })
  }

  #notice(notice: ParkNotice): void {
    switch (notice.type) {
      case 'listening':
        this.setUri(formatUri(notice.uri))
        this.#isListening = true
        this.emit('listening', formatUri(notice.uri))
        break
      case 'refused':
        this.emit('refused', errorFromRecord(notice.error))
        break
      case 'parked':
        this.#manifest = notice.manifest
        break
      case 'kept-whole':
        this.#isKeptWhole = true
        break
      case 'state':
        this.setState(notice.state, notice.error)
        break
      default:
        assertNever(notice)
    }
  }

  #workerLost(cause: unknown): void {
    if (!this.isWorkerLost) return
    const text = 'the park worker ended; the received pages may be in DIR.partial or DIR.incomplete'
    this.setState('failed', errorToRecord(new PostcopyError('ERR_WORKER_LOST', text, { cause })))
  }
}
