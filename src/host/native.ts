/** What `lab.node` exports. Functions return a count or `-errno`. */
import { loadAddon } from '../kernel/index.js'
import { callNumbers, rowOf, type Numbers } from '../kernel/internal.js'

declare const tag: unique symbol

export interface NativeProgram {
  readonly [tag]: 'program'
}
export interface NativeResponder {
  readonly [tag]: 'responder'
}

/** Numbers of {@link LabAddon.programStart}; `policy` is of {@link SignalPolicy}. */
export class ProgramCall extends callNumbers(
  'programStart',
  ['samples', 'policy', 'fd', 'source', 'cpu', 'takeSignals'],
  [],
) {}

/** Numbers of {@link LabAddon.responderStart}; `waiting` is an index of {@link waitingMethods}. */
export class ResponderCall extends callNumbers(
  'responderStart',
  ['waiting', 'cpu', 'batch', 'pageBytes', 'source'],
  [],
) {}

/** Numbers of {@link LabAddon.receiveAndPlace}. */
export class PlacementCall extends callNumbers(
  'receiveAndPlace',
  ['dst', 'alias', 'bounce', 'runBytes', 'totalBytes'],
  [],
) {}

/** A step of a program. Its arguments depend on the kind; these are those of a sweep. */
export const SweepStep = rowOf('sweepStep', [
  'kind',
  'address',
  'strideBytes',
  'count',
  'write',
  'order',
  'sampleAt',
  'unused',
])

/** The outcome of a step. */
export const OutcomeRow = rowOf('outcome', [
  'state',
  'value',
  'signal',
  'code',
  'address',
  'nanoseconds',
])

export const StepKind = {
  load: 1,
  store: 2,
  sweep: 3,
  syscall: 4,
  fork: 5,
  fill: 6,
  sleep: 7,
  awaitFlag: 8,
  raiseFlag: 9,
  memcpy: 10,
} as const

/** What SIGBUS and SIGSEGV do in a step. */
export const SignalPolicy = { record: 0, copy: 1, unprotect: 2 } as const

/** How a responder waits for messages, in the order of the addon's numbers. */
export const waitingMethods = ['blocking', 'poll', 'epoll', 'busy'] as const

/** An argument of a system call: a number, a 64-bit value, or memory whose address is passed. */
export type RawArgument = number | bigint | NodeJS.TypedArray

export interface LabAddon {
  syscallNumbers(): Record<string, number>
  syscall(number: number, ...args: RawArgument[]): number
  addressOf(bytes: NodeJS.TypedArray): number
  peek(address: number, target: Uint8Array): void
  poke(address: number, source: Uint8Array): void
  /** @param steps - rows of {@link SweepStep} */
  programStart(steps: Float64Array, numbers: Numbers<'programStart'>): NativeProgram | number
  programInfo(program: NativeProgram): NativeProgramInfo
  /** A row of {@link OutcomeRow} for each step. */
  programOutcomes(program: NativeProgram): Float64Array
  programSamples(program: NativeProgram): Float64Array
  programRaise(program: NativeProgram, flag: number, value: number): void
  userSignals(): number
  responderStart(fd: number, numbers: Numbers<'responderStart'>): NativeResponder | number
  /**
   * Receives pages from a socket and places them, either through `bounce` and COPY, or through
   * `alias` (if not 0) and CONTINUE. Returns the CPU time of this thread in ns.
   */
  receiveAndPlace(fd: number, numbers: Numbers<'receiveAndPlace'>): number
  responderStop(responder: NativeResponder): void
  responderInfo(responder: NativeResponder): NativeResponderInfo
}

export interface NativeProgramInfo {
  /** 0 until it runs. */
  threadId: number
  finished: boolean
  /** Faults that the signal policy resolved. */
  faultSignals: number
}

export interface NativeResponderInfo {
  threadId: number
  messages: number
  reads: number
  refusals: number
  /** `-errno`, or 0. */
  lastError: number
}

let loaded: LabAddon | undefined

/**
 * The addon of the lab. Installs handlers of SIGSEGV, SIGBUS and SIGUSR1, which forward the signals
 * of other threads.
 */
export function labNative(): LabAddon {
  return (loaded ??= loadAddon('lab') as LabAddon)
}
