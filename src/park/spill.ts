/**
 * Writes to disk what a source owes behind the switch, so that it can be had even if the source's
 * process is lost: `DIR.incomplete`, in the format of a parked VM (manifest.ts). It is removed when
 * the destination has everything.
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

/** The worker's only word. */
export type SpillNotice = { readonly path: string } | { readonly error: ErrorRecord }

/**
 * `path`: all of it is there, until the migration is complete. `isUnneeded`: the migration was over
 * before all of it was written, and nothing is left on disk. Or why it is not there.
 */
export type SpillEnd =
  { readonly path: string } | { readonly isUnneeded: true } | { readonly error: PostcopyError }

export class Spill {
  /** Resolves when it is done, or cannot be; never without a postcopy. The migration goes on in any case. */
  readonly written: Promise<SpillEnd>
  readonly #source: Source
  readonly #target: string
  readonly #options: TrustOptions
  /** What this has made, and may remove. */
  #directory: ParkDirectory | undefined
  #worker: WorkerThread<never, SpillNotice> | undefined
  #settle: (end: SpillEnd) => void = () => undefined
  #hasStarted = false
  #closed = false
  /** Resolves when nothing is left that nobody needs. */
  #removed: Promise<void> | undefined

  /**
   * @param source - one that has not handed its guest over yet
   * @param directory - DIR, which must not exist; what is written is `DIR.incomplete`
   * @throws PostcopyError `ERR_PARKED_EXISTS`, `ERR_PARKED_UNTRUSTED`
   */
  static follow(source: Source, directory: string, options: TrustOptions = {}): Spill {
    return new Spill(source, directory, options)
  }

  /** @throws PostcopyError where {@link follow} would */
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

  /** Ends the writing; what is there stays if the migration is not over. May be called twice. */
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
