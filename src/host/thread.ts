/** Native threads that run single raw steps, and the outcome of each step. */
import { readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { PostcopyError } from '../errors.js'
import {
  OutcomeRow,
  ProgramCall,
  ResponderCall,
  SignalPolicy,
  StepKind,
  SweepStep,
  labNative,
  waitingMethods,
} from './native.js'
import type { NativeProgram, NativeResponder, RawArgument } from './native.js'
import { addressOf, must, outcomeName, syscallNumber } from './raw.js'

/** One step of a thread; made by {@link step}. */
export interface Step {
  readonly kind: number
  readonly args: readonly number[]
  /** Memory that a system call points to, kept until the thread has ended. */
  readonly keep?: readonly RawArgument[]
  /** Steps that only a forked child runs. */
  readonly inChild?: readonly Step[]
  readonly samples?: number
}

export interface SweepOptions {
  strideBytes: number
  count: number
  write?: boolean
  /** Step of the walk, in places; coprime to `count`. Default 1: in order. */
  order?: number
  /** Record the nanoseconds of every access. Default true. */
  sample?: boolean
}

/** Makes steps. All addresses are of this process. */
export const step = {
  /** Reads a byte from user mode. */
  load: (address: number): Step => ({ kind: StepKind.load, args: [address] }),
  /** Writes a byte from user mode. */
  store: (address: number, value: number): Step => ({
    kind: StepKind.store,
    args: [address, value],
  }),
  /** Reads or writes many places, and records the time of each. */
  sweep: (address: number, options: SweepOptions): Step => {
    const { strideBytes, count, write = false, order = 1, sample = true } = options
    return {
      kind: StepKind.sweep,
      args: [address, strideBytes, count, write ? 1 : 0, order],
      samples: sample ? count : 0,
    }
  },
  /** A system call: faults in its buffers are faults inside the kernel. */
  syscall: (name: string, ...args: RawArgument[]): Step => ({
    kind: StepKind.syscall,
    args: [syscallNumber(name), ...args.map(toNumber)],
    keep: args,
  }),
  /** fork(2): the child runs these steps and exits with status 0. */
  fork: (...inChild: Step[]): Step => ({ kind: StepKind.fork, args: [inChild.length], inChild }),
  /** Calls a filling ioctl until `totalBytes` are done, `runBytes` at a time. */
  fill: (
    fd: number,
    request: number,
    dst: number,
    src: number,
    runBytes: number,
    totalBytes: number,
    mode = 0,
  ): Step => ({ kind: StepKind.fill, args: [fd, request, dst, src, runBytes, totalBytes, mode] }),
  sleep: (milliseconds: number): Step => ({ kind: StepKind.sleep, args: [milliseconds] }),
  /** Waits until a flag (0 to 15) is at least `value`. */
  awaitFlag: (flag: number, value = 1): Step => ({ kind: StepKind.awaitFlag, args: [flag, value] }),
  raiseFlag: (flag: number, value = 1): Step => ({ kind: StepKind.raiseFlag, args: [flag, value] }),
  memcpy: (dst: number, src: number, bytes: number): Step => ({
    kind: StepKind.memcpy,
    args: [dst, src, bytes],
  }),
}

/** The outcome of one step. */
export interface StepResult {
  begun: boolean
  done: boolean
  /** `ok`, an errno's name, `SIGBUS`, `SIGSEGV`, or `not done`. */
  outcome: string
  /** The byte that was read, or the result of a system call. */
  value: number
  /** si_code of the signal. */
  code: number
  /** si_addr of the signal. */
  address: number
  nanoseconds: number
}

export interface ThreadOptions {
  /** Run on this CPU only. */
  cpu?: number
  /** Deliver SIGUSR1 to the thread, whose handler counts it. Default false: blocked. */
  takeSignals?: boolean
  /**
   * What SIGBUS and SIGSEGV do. `record`, the default: they are the step's result. `copy`: the
   * handler calls UFFDIO_COPY for one page. `unprotect`: it calls mprotect(2) for one page. After
   * these two the access is repeated.
   */
  onFault?: 'record' | { copy: { fd: number; source: number } } | 'unprotect'
}

/** A native thread that runs steps. It may block for good: the exit does not wait for it. */
export class LabThread {
  readonly #program: NativeProgram
  readonly #steps: readonly Step[]
  readonly #keep: readonly RawArgument[]

  constructor(steps: readonly Step[], options: ThreadOptions = {}) {
    this.#steps = flatten(steps)
    this.#keep = this.#steps.flatMap((each) => [...(each.keep ?? [])])
    const encoded = new Float64Array(this.#steps.length * SweepStep.stride)
    let samples = 0
    this.#steps.forEach((each, index) => {
      const at = index * SweepStep.stride
      encoded.set([each.kind, ...each.args], at)
      if (each.kind === StepKind.sweep) {
        const wanted = each.samples ?? 0
        encoded[at + SweepStep.sampleAt] = wanted === 0 ? -1 : samples
        samples += wanted
      }
    })
    const { cpu = -1, takeSignals = false, onFault = 'record' } = options
    const copy = typeof onFault === 'object' ? onFault.copy : undefined
    const call = new ProgramCall()
    call.samples = samples
    call.policy =
      copy !== undefined
        ? SignalPolicy.copy
        : onFault === 'unprotect'
          ? SignalPolicy.unprotect
          : SignalPolicy.record
    call.fd = copy?.fd ?? -1
    call.source = copy?.source ?? 0
    call.cpu = cpu
    call.takeSignals = takeSignals ? 1 : 0
    const made = labNative().programStart(encoded, call.numbers)
    if (typeof made === 'number') must(made, 'thread')
    this.#program = made as NativeProgram
  }

  /** 0 until it runs. */
  get threadId(): number {
    return labNative().programInfo(this.#program).threadId
  }

  get finished(): boolean {
    return labNative().programInfo(this.#program).finished
  }

  /** Faults that the handler resolved (`onFault`). */
  get handledFaults(): number {
    return labNative().programInfo(this.#program).faultSignals
  }

  /** State letter of /proc: `S` in a fault, `D` while an event is unread, `R`; or `gone`. */
  get state(): string {
    return threadState(this.threadId)
  }

  /** Results of all steps, including those of forked children. */
  get results(): StepResult[] {
    const numbers = labNative().programOutcomes(this.#program)
    return this.#steps.map((_, index) => stepResult(numbers, index * OutcomeRow.stride))
  }

  /** One step's result. */
  result(index: number): StepResult {
    const found = this.results[index]
    if (found === undefined) throw new RangeError(`the thread has no step ${index}`)
    return found
  }

  /** Nanoseconds of every access of its sweeps. */
  get samples(): Float64Array {
    return labNative().programSamples(this.#program)
  }

  raiseFlag(flag: number, value = 1): void {
    labNative().programRaise(this.#program, flag, value)
  }

  /** Waits until the thread has finished. Throws if it is still in a step after `timeoutMs`. */
  async done(timeoutMs = 5000): Promise<StepResult[]> {
    const deadline = Date.now() + timeoutMs
    while (!this.finished) {
      if (Date.now() > deadline) {
        const at = this.results.findLastIndex((each) => each.begun)
        throw new PostcopyError(
          'ERR_LAB_TIMEOUT',
          `the thread is still in step ${at} after ${timeoutMs} ms (state ${this.state})`,
        )
      }
      await sleep(1)
    }
    return this.results
  }

  /** Whether the thread still sleeps in a step after `momentMs`, much longer than a wake-up. */
  async parks(momentMs = 40): Promise<boolean> {
    const deadline = Date.now() + 2000
    while (this.threadId === 0 && Date.now() < deadline) await sleep(1)
    for (let waited = 0; waited < momentMs; waited += 5) {
      if (this.finished) return false
      await sleep(5)
    }
    return !this.finished && ['S', 'D'].includes(this.state)
  }

  /** The memory that its system calls point to, kept from garbage collection. */
  get memory(): readonly RawArgument[] {
    return this.#keep
  }
}

export interface ResponderOptions {
  waiting: (typeof waitingMethods)[number]
  cpu?: number
  /** Messages for each read(2); default 1. */
  batch?: number
  pageBytes?: number
  /** Content of missing pages; default zeros. */
  source?: Uint8Array
}

/** A native thread that resolves every fault of a userfaultfd. */
export class LabResponder {
  readonly #responder: NativeResponder
  /** Kept referenced, because the thread reads it. */
  readonly source: Uint8Array | undefined

  constructor(fd: number, options: ResponderOptions) {
    const { waiting, cpu = -1, batch = 1, pageBytes = 4096, source } = options
    this.source = source
    const call = new ResponderCall()
    call.waiting = waitingMethods.indexOf(waiting)
    call.cpu = cpu
    call.batch = batch
    call.pageBytes = pageBytes
    call.source = source === undefined ? 0 : addressOf(source)
    const made = labNative().responderStart(fd, call.numbers)
    if (typeof made === 'number') must(made, 'responder thread')
    this.#responder = made as NativeResponder
  }

  get info(): {
    threadId: number
    messages: number
    reads: number
    refusals: number
    lastError: string
  } {
    const { lastError, ...numbers } = labNative().responderInfo(this.#responder)
    return { ...numbers, lastError: outcomeName(lastError) }
  }

  /** Ends the thread: after the next message if `blocking`, else soon. */
  stop(): void {
    labNative().responderStop(this.#responder)
  }
}

/** How often the handler of SIGUSR1 ran in threads with `takeSignals`. */
export function userSignalCount(): number {
  return labNative().userSignals()
}

/** State letter of a thread of this process. */
export function threadState(threadId: number): string {
  try {
    const stat = readFileSync(`/proc/self/task/${threadId}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3)
  } catch {
    return 'gone'
  }
}

const signalNames = new Map(Object.entries(constants.signals).map(([name, value]) => [value, name]))

function stepResult(numbers: Float64Array, at: number): StepResult {
  const state = numbers[at + OutcomeRow.state] ?? 0
  const value = numbers[at + OutcomeRow.value] ?? 0
  const signal = numbers[at + OutcomeRow.signal] ?? 0
  const code = numbers[at + OutcomeRow.code] ?? 0
  const address = numbers[at + OutcomeRow.address] ?? 0
  const nanoseconds = numbers[at + OutcomeRow.nanoseconds] ?? 0
  const outcome =
    state < 2
      ? 'not done'
      : signal !== 0
        ? (signalNames.get(signal) ?? `signal ${signal}`)
        : outcomeName(value)
  return { begun: state > 0, done: state === 2, outcome, value, code, address, nanoseconds }
}

/** Puts the steps of a child after the fork that makes it. */
function flatten(steps: readonly Step[]): Step[] {
  return steps.flatMap((each) => {
    const inChild = flatten(each.inChild ?? [])
    const self = each.kind === StepKind.fork ? { ...each, args: [inChild.length] } : each
    return [self, ...inChild]
  })
}

function toNumber(argument: RawArgument): number {
  if (typeof argument === 'number') return argument
  if (typeof argument === 'bigint') return Number(argument)
  return addressOf(argument)
}
