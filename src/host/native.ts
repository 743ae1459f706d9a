/** What `lab.node` exports. Functions return a count or `-errno`. */
import { loadAddon } from '../kernel/index.js'

declare const tag: unique symbol

export interface NativeProgram {
  readonly [tag]: 'program'
}
export interface NativeResponder {
  readonly [tag]: 'responder'
}

/** An argument of a system call: a number, a 64-bit value, or memory whose address is passed. */
export type RawArgument = number | bigint | NodeJS.TypedArray

export interface LabAddon {
  syscallNumbers(): Record<string, number>
  syscall(number: number, ...args: RawArgument[]): number
  addressOf(bytes: NodeJS.TypedArray): number
  peek(address: number, target: Uint8Array): void
  poke(address: number, source: Uint8Array): void
  programStart(
    steps: Float64Array,
    samples: number,
    policy: number,
    fd: number,
    source: number,
    cpu: number,
    takeSignals: boolean,
  ): NativeProgram | number
  programInfo(program: NativeProgram): [threadId: number, finished: number, faultSignals: number]
  /** Per step: state, value, signal, code, address, nanoseconds. */
  programOutcomes(program: NativeProgram): Float64Array
  programSamples(program: NativeProgram): Float64Array
  programRaise(program: NativeProgram, flag: number, value: number): void
  userSignals(): number
  responderStart(
    fd: number,
    waiting: number,
    cpu: number,
    batch: number,
    pageBytes: number,
    source: number,
  ): NativeResponder | number
  /**
   * Receives pages from a socket and places them, either through `bounce` and COPY, or through
   * `alias` (if not 0) and CONTINUE. Returns the CPU time of this thread in ns.
   */
  receiveAndPlace(
    fd: number,
    dst: number,
    alias: number,
    bounce: number,
    runBytes: number,
    totalBytes: number,
  ): number
  responderStop(responder: NativeResponder): void
  responderInfo(
    responder: NativeResponder,
  ): [threadId: number, messages: number, reads: number, refusals: number, lastError: number]
}

let loaded: LabAddon | undefined

/**
 * The addon of the lab. Installs handlers of SIGSEGV, SIGBUS and SIGUSR1, which forward the signals
 * of other threads.
 */
export function labNative(): LabAddon {
  return (loaded ??= loadAddon('lab') as LabAddon)
}
