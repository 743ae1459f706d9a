/**
 * Writes to disk what a source owes behind the switch, so that it can be had even if the source's
 * process is lost: `DIR.incomplete`, in the format of a parked VM (manifest.ts). It is removed when
 * the destination has everything.
 */
import { rm } from 'node:fs/promises'
import { resolve } from 'node:path'
import { type ErrorRecord, type PostcopyError, errorFromRecord } from '../errors.js'
import { workerLost } from '../migration/migration.js'
import { isFinal } from '../migration/states.js'
import { WorkerThread } from '../migration/worker-thread.js'
import type { Owed, Source } from '../source/source.js'
import { ParkDirectory } from './directory.js'

export interface SpillWorkerData {
  readonly directory: string
  readonly owed: Owed
}

/** The worker's only word. */
export type SpillNotice = { readonly path: string } | { readonly error: ErrorRecord }

/** `path`: all of it is there, until the migration is complete. Or why it is not. */
export type SpillEnd = { readonly path: string } | { readonly error: PostcopyError }

export class Spill {
  /** Resolves when it is done, or cannot be; never without a postcopy. The migration goes on in any case. */
  readonly written: Promise<SpillEnd>
  readonly #source: Source
  readonly #directory: string
  #worker: WorkerThread<never, SpillNotice> | undefined
  #settle: (end: SpillEnd) => void = () => undefined
  /** Resolves when nothing is left that nobody needs. */
  #removed: Promise<void> | undefined

  /**
   * @param source - one that has not handed its guest over yet
   * @param directory - DIR, which must not exist; what is written is `DIR.incomplete`
   * @throws PostcopyError `ERR_PARKED_EXISTS`
   */
  static follow(source: Source, directory: string): Spill {
    return new Spill(source, directory)
  }

  /** @throws PostcopyError `ERR_PARKED_EXISTS` where {@link follow} would */
  static checkFree(directory: string): void {
    ParkDirectory.checkFree(directory)
  }

  private constructor(source: Source, directory: string) {
    Spill.checkFree(directory)
    this.#source = source
    this.#directory = directory
    this.written = new Promise((settle) => {
      this.#settle = settle
    })
    source.on('state', (state) => {
      if (isFinal(state)) this.#removed ??= this.#remove()
      else if (source.owed !== undefined) this.#worker ??= this.#start(source.owed)
    })
  }

  /** Ends the writing; what is there stays if the migration is not over. May be called twice. */
  async close(): Promise<void> {
    if (isFinal(this.#source.state)) this.#removed ??= this.#remove()
    await this.#removed
    await this.#worker?.terminate()
  }

  #start(owed: Owed): WorkerThread<never, SpillNotice> {
    const workerData: SpillWorkerData = { directory: this.#directory, owed }
    return new WorkerThread(new URL('./spill-worker.js', import.meta.url), 'spill', workerData, {
      notice: (notice) =>
        this.#settle('error' in notice ? { error: errorFromRecord(notice.error) } : notice),
      ended: (cause) => this.#settle({ error: workerLost('spill', cause) }),
    })
  }

  async #remove(): Promise<void> {
    if (this.#worker === undefined) return
    await this.#worker.terminate()
    for (const path of ParkDirectory.unfinished(resolve(this.#directory))) {
      await rm(path, { recursive: true, force: true })
    }
  }
}
