/**
 * Writes to disk what a source owes after the switch, so that it survives the loss of the source's
 * process. The result is `DIR.incomplete`, in the format of a parked VM (manifest.ts). It is
 * removed once the destination has everything.
 */
import { bundledEntry } from '../kernel/internal.js'
import { type ErrorRecord, type PostcopyError, errorFromRecord, errorToRecord } from '../errors.js'
import { closedByOwner, isFinal, workerLost, WorkerThread } from '../migration/index.js'
import type { Owed, Source } from '../source/index.js'
import { ParkDirectory, type ParkDirectoryHandle } from './directory.js'
import type { TrustOptions } from './trusted-directory.js'

export interface SpillWorkerData {
  readonly directory: ParkDirectoryHandle
  readonly owed: Owed
}

/** The worker's only message. */
export type SpillNotice = { readonly path: string } | { readonly error: ErrorRecord }

/**
 * The result of a spill:
 *
 * - `path`: everything is on disk, and stays there until the migration is complete.
 * - `isUnneeded`: the migration was over before everything was written; nothing is left on disk.
 * - `error`: why it is not on disk.
 */
export type SpillEnd =
  { readonly path: string } | { readonly isUnneeded: true } | { readonly error: PostcopyError }

export class Spill {
  /**
   * Resolves when the spill is finished or has failed; stays pending without a postcopy. The
   * migration continues in any case.
   */
  readonly written: Promise<SpillEnd>
  readonly #source: Source
  readonly #target: string
  readonly #options: TrustOptions
  /** Created by this spill, which may remove it. */
  #directory: ParkDirectory | undefined
  #worker: WorkerThread<never, SpillNotice> | undefined
  #settle: (end: SpillEnd) => void = () => undefined
  #hasStarted = false
  #closed = false
  /** Resolves when the spill is removed, after it is not needed any more. */
  #removed: Promise<void> | undefined

  /**
   * @param source - must not have handed its guest over yet
   * @param directory - DIR, which must not exist; the spill is written to `DIR.incomplete`
   * @throws PostcopyError `ERR_PARKED_EXISTS`, `ERR_PARKED_UNTRUSTED`
   */
  static follow(source: Source, directory: string, options: TrustOptions = {}): Spill {
    return new Spill(source, directory, options)
  }

  /** @throws PostcopyError as {@link follow} would */
  static checkFree(directory: string, options: TrustOptions = {}): void {
    ParkDirectory.checkFree(directory, options)
  }

  private constructor(source: Source, directory: string, options: TrustOptions) {
    Spill.checkFree(directory, options)
    this.#source = source
    this.#target = directory
    this.#options = options
    this.written = new Promise((settle) => {
      this.#settle = settle
    })
    source.on('state', (state) => {
      if (isFinal(state)) this.#removed ??= this.#remove()
      else if (source.owed !== undefined && !this.#hasStarted) this.#start(source.owed)
    })
  }

  /** Ends the writing. Written files stay unless the migration is over. May be called twice. */
  async close(): Promise<void> {
    if (isFinal(this.#source.state)) this.#removed ??= this.#remove()
    await this.#removed
    this.#closed = true
    await this.#worker?.terminate()
    this.#directory?.close()
  }

  #start(owed: Owed): void {
    this.#hasStarted = true
    try {
      this.#directory = ParkDirectory.create(this.#target, this.#options)
    } catch (error) {
      this.#settle({ error: errorFromRecord(errorToRecord(error)) })
      return
    }
    const workerData: SpillWorkerData = { directory: this.#directory.handle, owed }
    this.#worker = new WorkerThread(bundledEntry('park/spill-worker'), 'spill', workerData, {
      notice: (notice) =>
        this.#settle('error' in notice ? { error: errorFromRecord(notice.error) } : notice),
      ended: (cause) => {
        if (this.#removed !== undefined) this.#settle({ isUnneeded: true })
        else if (this.#closed) this.#settle({ error: closedByOwner('spill') })
        else this.#settle({ error: workerLost('spill', cause) })
      },
    })
  }

  async #remove(): Promise<void> {
    this.#closed = true
    await this.#worker?.terminate()
    this.#directory?.remove()
    this.#directory?.close()
    this.#directory = undefined
  }
}
