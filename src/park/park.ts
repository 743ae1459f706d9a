/** Parking as its user sees it: starts the worker, and tells what it does. */
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
  /** Where the VM goes; must not exist yet. Its parent must. */
  directory: string
  /** `x-max-package-bytes` bounds the device state, `tls-creds` says who may connect. */
  parameters?: Partial<Parameters>
}

export interface ParkOptions extends ParkSettings {
  /** Where to listen: `tcp:HOST:PORT` (port 0: the kernel picks one) or `unix:PATH`. */
  uri: string
}

export interface ParkFileOptions extends ParkSettings {
  /** A saved stream: what `migrate "exec:cat > FILE"` wrote. May be a pipe; `-`: standard input. */
  file: string
}

/**
 * A VM on its way from a QEMU to a directory, begun by {@link Park.listen} or
 * {@link Park.fromFile}.
 *
 * `done` resolves when the VM is on disk and its source has heard of it. A migration that fails
 * before the device state came leaves nothing; later it becomes `postcopy-paused`, with what came
 * in `DIR.incomplete` and the rest still in the source.
 */
export class Park extends MigrationEnd<ParkRequest, ParkNotice> {
  #isListening = false
  #manifest: Manifest | undefined
  #isKeptWhole = false

  /**
   * Resolves when a source may connect.
   *
   * @throws PostcopyError `ERR_PARKED_EXISTS`, `ERR_PARKED_UNTRUSTED`, `ERR_TLS_CREDENTIALS`; ConnectionError where it cannot
   *   listen
   */
  static async listen(options: ParkOptions): Promise<Park> {
    const park = new Park({ uri: parseUri(options.uri) }, options)
    await Promise.race([once(park, 'listening'), park.done])
    return park
  }

  /**
   * Goes on with a postcopy that broke off, where QEMU is `postcopy-paused` and will
   * `migrate -r` (QMP: `resume`). Resolves when it may connect; where no page is missing any more, when
   * DIR is there, without a connection (`uri` is undefined).
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
    return new Park({ file: options.file }, options)
  }

  private constructor(origin: ParkOrigin, options: ParkSettings, isRecovery = false) {
    const place = 'uri' in origin ? 'uri' : 'file'
    checkOptionNames(options, [place, 'directory', 'parameters', 'allowForeignDirectory'])
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
    // A pipe that it opens belongs to a socket, which closes it.
    this.setWorker(
      new WorkerThread(bundledEntry('park/worker'), 'park', workerData, events, {
        trackUnmanagedFds: false,
      }),
    )
  }

  /** Where it listens, with the port that the kernel picked; undefined before it does. */
  get uri(): string | undefined {
    return this.#isListening ? this.currentUri : undefined
  }

  /** What is in the directory, once it is there. */
  get manifest(): Manifest | undefined {
    return this.#manifest
  }

  /**
   * Whether it is `postcopy-paused` with every page in `DIR.incomplete`: {@link Park.recover} finishes it
   * without a source.
   */
  get isKeptWhole(): boolean {
    return this.#isKeptWhole
  }

  /** Gives up, as if the connection had broken. Nothing happens when it is over. */
  stop(): void {
    this.#stop(new PostcopyError('ABORT_ERR', 'parking was stopped, as asked for'))
  }

  /**
   * Gives up where it is not over, and ends the worker. A `done` that is pending rejects with
   * `ERR_CLOSED`. May be called twice.
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
    const text =
      'the worker that parks has ended; what came may be in DIR.partial or DIR.incomplete'
    this.setState('failed', errorToRecord(new PostcopyError('ERR_WORKER_LOST', text, { cause })))
  }
}
