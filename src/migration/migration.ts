/** What the main thread sees of either end: its state, its history and its counters. */
import { EventEmitter } from 'node:events'
import {
  ConnectionError,
  type ErrorRecord,
  KernelError,
  MachineError,
  PostcopyError,
  StateError,
  errorFromRecord,
  errorToRecord,
} from '../errors.js'
import { Userfaultfd } from '../kernel/index.js'
import { type ReadOnlyCounters, createReadOnlyCounters } from './counters.js'
import { type MigrationState, isFinal } from './states.js'

export interface MigrationEvents {
  /**
   * Every state in order. `error` is the reason if the state is a failure. At a destination that is
   * `postcopy-active` or `completed`, it is the reason why the machine did not start.
   */
  state: [state: MigrationState, error: PostcopyError | undefined]
  /** A destination listens on `uri`, with the port that the kernel picked. */
  listening: [uri: string]
  /** A source has read its dirty log for the `count`th time, and sends the pages it found. */
  'dirty-sync': [count: number]
  /** A peer was rejected; the right one may still connect. */
  refused: [error: PostcopyError]
  /**
   * A source has stopped the guest, or has started it again because the guest stays here. `error`:
   * the start failed, and the guest stays here stopped.
   */
  guest: [error?: PostcopyError]
}

/**
 * One migration, seen from one end.
 *
 * `done` resolves when it is `completed` and rejects when it is `failed` or `cancelled`. It also
 * rejects if the machine threw at its start at the destination, although the whole guest is there.
 * `postcopy-paused` does not settle `done`, because the guest's memory is kept. In that state
 * `close()` rejects it with `ERR_CLOSED`, and `takeBack()` with `ERR_TAKEN_BACK`.
 */
export abstract class Migration extends EventEmitter<MigrationEvents> {
  /** Live numbers, written by the worker: copies, by which nothing is decided. */
  readonly counters: ReadOnlyCounters = createReadOnlyCounters()
  readonly done: Promise<void>
  #state: MigrationState = 'none'
  #error: PostcopyError | undefined
  /** The last error that a hook of the machine threw. A worker gets, and returns, a copy of it. */
  #hookError: MachineError | undefined
  #settle: { resolve: () => void; reject: (error: Error) => void } | undefined
  #endedByOwner: PostcopyError | undefined

  protected constructor() {
    super()
    this.done = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject }
    })
    // A user who does not wait for `done` learns of a failure from the event.
    this.done.catch(() => undefined)
  }

  get state(): MigrationState {
    return this.#state
  }

  /** Guest memory crosses an address other than loopback without TLS. */
  get isPlaintext(): boolean {
    return false
  }

  /** Why the migration failed or paused, or why the machine did not start at the destination. */
  get error(): PostcopyError | undefined {
    return this.#error
  }

  protected setState(state: MigrationState, record?: ErrorRecord): void {
    if (isFinal(this.#state)) return
    this.#state = state
    this.#error = record === undefined ? undefined : this.#recall(record)
    if (isFinal(state) && this.#error !== undefined) this.#settle?.reject(this.#error)
    else if (state === 'completed') this.#settle?.resolve()
    try {
      this.emit('state', state, this.#error)
    } catch (error) {
      // A listener's exception belongs to its owner, and must not stop the migration.
      process.nextTick(() => {
        throw error
      })
    }
  }

  /** Why the owner has ended the migration; undefined if it has not. */
  protected get endedByOwner(): PostcopyError | undefined {
    return this.#endedByOwner
  }

  /** The first reason is kept. */
  protected endByOwner(reason: PostcopyError): void {
    this.#endedByOwner ??= reason
  }

  /** Call after the last event was sent; settles `done`. */
  protected settleByOwner(): void {
    if (this.#endedByOwner !== undefined) this.#settle?.reject(this.#endedByOwner)
  }

  /** Makes a record of `error` for the worker. It becomes the same object again when it returns. */
  protected recordHookError(error: unknown): ErrorRecord {
    if (error instanceof MachineError) this.#hookError = error
    return errorToRecord(error)
  }

  /** Call if the guest was to continue here but did not start, after the migration had ended. */
  protected failedToStart(error: MachineError): void {
    this.#error = error
  }

  #recall(record: ErrorRecord): PostcopyError {
    const own = this.#hookError
    const isOwn = record.kind === 'machine' && record.message === own?.message
    return isOwn ? own : errorFromRecord(record)
  }
}

const pausable: readonly MigrationState[] = [
  'postcopy-active',
  'postcopy-recover-setup',
  'postcopy-recover',
]

/** @throws StateError `ERR_STATE_PAUSE` if a migration in this state cannot be paused */
export function refusePause(state: MigrationState): void {
  if (pausable.includes(state)) return
  throw new StateError(
    'ERR_STATE_PAUSE',
    'only a migration that is postcopy-active, or recovering, can be paused',
    state,
  )
}

/** @throws StateError `ERR_STATE_RECOVER` if there is nothing to recover */
export function refuseRecover(state: MigrationState, begun = false): void {
  if (state === 'postcopy-paused' && !begun) return
  const isUnderWay = begun || state === 'postcopy-recover-setup' || state === 'postcopy-recover'
  throw new StateError(
    'ERR_STATE_RECOVER',
    isUnderWay
      ? 'a recovery is under way: migrate_pause ends it'
      : 'only a migration that is postcopy-paused can be recovered',
    state,
  )
}

/** The reason of a `postcopy-paused` that was requested. */
export function pausedOnPurpose(): ConnectionError {
  return new ConnectionError('ERR_CONNECTION_PAUSED', 'the migration was paused by a command')
}

/** The reason why nothing more happens after `close()`. */
export function closedByOwner(what = 'migration'): PostcopyError {
  return new PostcopyError('ERR_CLOSED', `the ${what} was closed`)
}

/** A worker ended before its migration did. */
export function workerLost(
  which: 'source' | 'destination' | 'spill',
  cause: unknown,
): PostcopyError {
  const why = cause instanceof Error ? `: ${cause.message}` : ''
  return new PostcopyError('ERR_WORKER_LOST', `the ${which} worker ended${why}`, { cause })
}

/** Attaches to a worker's userfaultfd; undefined if the worker has already closed it. */
export function attachWhileOpen(id: number): Userfaultfd | undefined {
  try {
    return Userfaultfd.attach(id)
  } catch (error) {
    if (error instanceof KernelError && error.code === 'ENOENT') return undefined
    throw error
  }
}

/**
 * Closes what {@link attachWhileOpen} returned, and the descriptor that a dead worker left open.
 */
export function releaseUserfaultfd(uffd: Userfaultfd | undefined): void {
  if (uffd === undefined) return
  uffd.close()
  attachWhileOpen(uffd.id)?.close()
}
