/** What both ends have in common as the main thread sees them: a state, its history, its counters. */
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
   * Every state in order. `error` says why, where the state is a failure; at a destination that is
   * `postcopy-active` or `completed`, why the machine did not start.
   */
  state: [state: MigrationState, error: PostcopyError | undefined]
  /** A destination listens on `uri`, with the port that the kernel picked. */
  listening: [uri: string]
  /** A source has read its dirty log for the `count`th time, and sends what it found. */
  'dirty-sync': [count: number]
  /** A peer was turned away; the right one may still come. */
  refused: [error: PostcopyError]
  /**
   * A source has stopped the guest, or started it again because it stays. `error`: it could not be
   * started, and stays here stopped.
   */
  guest: [error?: PostcopyError]
}

/**
 * One migration, seen from one end.
 *
 * `done` resolves when it is `completed` and rejects when it is `failed` or `cancelled`, or where
 * the machine threw when it was to start at the destination, although all of the guest is there.
 * `postcopy-paused` does not settle it, because the guest's memory is kept; then `close()` rejects it
 * with `ERR_CLOSED`, and `takeBack()` with `ERR_TAKEN_BACK`.
 */
export abstract class Migration extends EventEmitter<MigrationEvents> {
  /** Live numbers, written by the worker: copies, by which nothing is decided. */
  readonly counters: ReadOnlyCounters = createReadOnlyCounters()
  readonly done: Promise<void>
  #state: MigrationState = 'none'
  #error: PostcopyError | undefined
  /** What a hook of the machine threw last: a worker gets, and returns, a copy. */
  #hookError: MachineError | undefined
  #settle: { resolve: () => void; reject: (error: Error) => void } | undefined
  #endedByOwner: PostcopyError | undefined

  protected constructor() {
    super()
    this.done = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject }
    })
    // Whoever does not wait for `done` learns of a failure by the event.
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
      // A listener's exception is its owner's, and stops nothing here.
      process.nextTick(() => {
        throw error
      })
    }
  }

  /** Why it does not go on, by a decision of its owner; undefined: it may. */
  protected get endedByOwner(): PostcopyError | undefined {
    return this.#endedByOwner
  }

  /** The first reason counts. */
  protected endByOwner(reason: PostcopyError): void {
    this.#endedByOwner ??= reason
  }

  /** Call when the last event was sent: `done` is settled from then on. */
  protected settleByOwner(): void {
    if (this.#endedByOwner !== undefined) this.#settle?.reject(this.#endedByOwner)
  }

  /** For the worker: a record of `error`, which becomes the same object again on its way back. */
  protected recordHookError(error: unknown): ErrorRecord {
    if (error instanceof MachineError) this.#hookError = error
    return errorToRecord(error)
  }

  /** The guest was to go on here but did not start, after the migration had ended. */
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

/** @throws StateError `ERR_STATE_PAUSE` where a migration cannot be paused */
export function refusePause(state: MigrationState): void {
  if (pausable.includes(state)) return
  throw new StateError(
    'ERR_STATE_PAUSE',
    'only a migration that is postcopy-active, or recovering, can be paused',
    state,
  )
}

/** @throws StateError `ERR_STATE_RECOVER` where there is nothing to recover */
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

/** Why a migration is `postcopy-paused` where that was asked for. */
export function pausedOnPurpose(): ConnectionError {
  return new ConnectionError('ERR_CONNECTION_PAUSED', 'the migration was paused, as asked for')
}

/** Why nothing more happens after `close()`. */
export function closedByOwner(what = 'migration'): PostcopyError {
  return new PostcopyError('ERR_CLOSED', `the ${what} was closed: only a new one can go on`)
}

/** A worker ended before its migration did. */
export function workerLost(
  which: 'source' | 'destination' | 'spill',
  cause: unknown,
): PostcopyError {
  const why = cause instanceof Error ? `: ${cause.message}` : ''
  return new PostcopyError('ERR_WORKER_LOST', `the ${which} worker ended${why}`, { cause })
}

/** A hold on a worker's userfaultfd; undefined if the worker has closed it already. */
export function attachWhileOpen(id: number): Userfaultfd | undefined {
  try {
    return Userfaultfd.attach(id)
  } catch (error) {
    if (error instanceof KernelError && error.code === 'ENOENT') return undefined
    throw error
  }
}

/** Closes a hold of {@link attachWhileOpen}, and what a worker that died has left open. */
export function releaseUserfaultfd(uffd: Userfaultfd | undefined): void {
  if (uffd === undefined) return
  uffd.close()
  attachWhileOpen(uffd.id)?.close()
}
