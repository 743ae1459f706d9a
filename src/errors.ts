/**
 * All errors of this package. Match on `code`, which is stable; messages may change.
 *
 * @packageDocumentation
 */

import { printable, printableMessage } from './printable.js'

/** Most characters of an error message that quotes a peer; it has one line. */
const LINE_LIMIT = 4096

/**
 * Base of all errors of this package. A message never contains control characters except line
 * ends, so it is safe to print to a terminal or a log.
 */
export class PostcopyError extends Error {
  /** Stable: an errno name (`EPERM`) or `ERR_…`. */
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(printableMessage(message), options)
    this.name = new.target.name
    this.code = code
  }
}

/** A system call failed. */
export class KernelError extends PostcopyError {
  /** Negative, as in Node's own system errors. */
  readonly errno: number
  readonly syscall: string
  /** Which setting to change, if known. */
  readonly hint: string | undefined

  constructor(
    code: string,
    errno: number,
    syscall: string,
    details: { args?: string; hint?: string | undefined } = {},
  ) {
    const call = `${syscall}(${details.args ?? ''})`
    super(code, `${code}: ${call}${details.hint === undefined ? '' : `: ${details.hint}`}`)
    this.errno = errno
    this.syscall = syscall
    this.hint = details.hint
  }
}

/** Bytes that are not a migration stream, or a stream that this receiver does not support. */
export class StreamError extends PostcopyError {
  /** Offset of the rejected element in the channel, in bytes. */
  readonly streamOffset: number

  constructor(
    code: `ERR_STREAM_${string}`,
    message: string,
    streamOffset: number,
    options?: ErrorOptions,
  ) {
    super(
      code,
      `${printable(message, LINE_LIMIT)} (at stream offset ${String(streamOffset)})`,
      options,
    )
    this.streamOffset = streamOffset
  }
}

/** A command or message that is legal, but not in the current state. */
export class StateError extends PostcopyError {
  readonly state: string

  constructor(code: `ERR_STATE_${string}`, message: string, state: string, options?: ErrorOptions) {
    super(code, `${message} (state ${state})`, options)
    this.state = state
  }
}

/** The peer refused a request, or violated the protocol. */
export class PeerError extends PostcopyError {
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(code, printable(message, LINE_LIMIT), options)
  }
}

/** A connection could not be made, or broke. */
export class ConnectionError extends PostcopyError {}

/**
 * A hook of a {@link MigratableMachine} threw, or returned an invalid value. `cause` is the thrown
 * error: the same object if the machine's migration runs in this process. `code` is that of a
 * thrown PostcopyError, otherwise `ERR_MACHINE_HOOK`.
 */
export class MachineError extends PostcopyError {
  /** Name of the method or property of the machine. */
  readonly hook: string

  /**
   * @param options - `call`: the hook with its arguments, if they tell more than its name
   */
  constructor(hook: string, what: string, options?: ErrorOptions & { call?: string }) {
    const { cause } = options ?? {}
    const code = cause instanceof PostcopyError ? cause.code : 'ERR_MACHINE_HOOK'
    super(code, `the machine's ${options?.call ?? hook} ${what}`, options)
    this.hook = hook
  }
}

/** Most nested causes in a record: an error may be its own cause. */
const MOST_CAUSES = 4

/** A plain copy of an error for `postMessage`, which would drop its class and `code`. */
export interface ErrorRecord {
  kind: 'kernel' | 'stream' | 'state' | 'peer' | 'connection' | 'machine' | 'other'
  code: string
  message: string
  errno?: number
  syscall?: string
  hint?: string | undefined
  streamOffset?: number
  state?: string
  hook?: string
  stack?: string | undefined
  cause?: ErrorRecord
}

/** Turns an error into a record for another thread; see {@link errorFromRecord}. */
export function errorToRecord(error: unknown, causes = MOST_CAUSES): ErrorRecord {
  if (!(error instanceof Error)) {
    return { kind: 'other', code: 'ERR_UNKNOWN', message: String(error) }
  }
  const { message, stack, cause } = error
  const isKept = cause !== undefined && causes > 0
  const base = { message, stack, ...(isKept ? { cause: errorToRecord(cause, causes - 1) } : {}) }
  if (error instanceof KernelError) {
    const { code, errno, syscall, hint } = error
    return { kind: 'kernel', code, errno, syscall, hint, ...base }
  }
  if (error instanceof StreamError) {
    return { kind: 'stream', code: error.code, streamOffset: error.streamOffset, ...base }
  }
  if (error instanceof StateError) {
    return { kind: 'state', code: error.code, state: error.state, ...base }
  }
  if (error instanceof PeerError) return { kind: 'peer', code: error.code, ...base }
  if (error instanceof ConnectionError) return { kind: 'connection', code: error.code, ...base }
  if (error instanceof MachineError) {
    return { kind: 'machine', code: error.code, hook: error.hook, ...base }
  }
  const code = 'code' in error && typeof error.code === 'string' ? error.code : 'ERR_UNKNOWN'
  return { kind: 'other', code, ...base }
}

const prototypes = {
  kernel: KernelError,
  stream: StreamError,
  state: StateError,
  peer: PeerError,
  connection: ConnectionError,
  machine: MachineError,
  other: PostcopyError,
} as const

/** Rebuilds an error from the record of {@link errorToRecord}, with its class and fields. */
export function errorFromRecord(record: ErrorRecord): PostcopyError {
  const { kind, stack, cause, ...fields } = record
  const target = prototypes[kind]
  const message = printableMessage(record.message)
  const error = Object.create(target.prototype) as PostcopyError
  Object.assign(error, fields, { name: target.name })
  Object.defineProperty(error, 'message', { value: message, enumerable: false })
  Object.defineProperty(error, 'stack', { value: stack ?? message, enumerable: false })
  if (cause !== undefined) {
    Object.defineProperty(error, 'cause', { value: errorFromRecord(cause), enumerable: false })
  }
  return error
}
