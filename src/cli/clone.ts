/**
 * One QEMU that receives a parked VM: its progress messages while memory follows, and its result.
 */
import { KernelError, PostcopyError, errorToRecord } from '../errors.js'
import { type GuestLocation, isAtRest, isFinal } from '../migration/index.js'
import {
  explainRecoveryRefusal,
  explainRefusal,
  type RefusalEvidence,
  type StoredVm,
} from '../park/index.js'
import { sentence } from '../printable.js'
import type { Source } from '../source/index.js'
import { formatByteSize } from '../units.js'
import type { QemuLog } from './qemu-log.js'
import type { StatusLine } from './status-line.js'

export interface ResumeResult {
  readonly uri: string
  readonly status: string
  /** Milliseconds from connecting until the guest ran at the destination. */
  readonly stoppedMs: number | undefined
  readonly durationMs: number
  readonly transferredBytes: number
  readonly normalPages: number
  readonly zeroPages: number
  readonly requestedPages: number
  /** Pages of the working set that were pushed. */
  readonly replayedPages: number
  /** Where the guest is, as far as known, if its memory is incomplete; `here`: not at the URI. */
  readonly guestLocation?: GuestLocation
  readonly error?: { readonly code: string; readonly message: string }
}

/** The error codes of a source whose peer has closed, or has sent SHUT 1: possible refusals. */
const REFUSALS = ['ERR_CONNECTION_CLOSED', 'ERR_PEER_REFUSED']

/** A QEMU that answers at all does so within milliseconds. */
const NO_ANSWER_MS = 3000
const NO_ANSWER =
  'if QEMU waits for further channels, multifd or postcopy-preempt is on at one end only: in its monitor, migrate_set_capability multifd off; here, --preempt belongs to postcopy-preempt'

const GO_ON = 'migrate_recover there and resume --recover here continue the migration'

export interface CloneOptions {
  readonly uri: string
  /** Begins the migration. Its error ends only this clone. */
  readonly begin: () => Source
  readonly isRecovery: boolean
  /** After this time without a guest that runs, a likely reason is printed. Default 3000. */
  readonly noAnswerMs?: number
  /** The log of the QEMU at `uri`; read only after a refusal. */
  readonly qemuLog?: Pick<QemuLog, 'read'> | undefined
}

export class Clone {
  readonly uri: string
  /** Undefined if it could not begin. */
  readonly source: Source | undefined
  /** Never rejects. */
  readonly result: Promise<ResumeResult>
  readonly #vm: StoredVm
  readonly #status: Pick<StatusLine, 'note'>
  readonly #isRecovery: boolean
  readonly #qemuLog: Pick<QemuLog, 'read'> | undefined
  #stoppedMs: number | undefined
  #stage: RefusalEvidence['stage'] = 'setup'
  #end: () => void = () => undefined

  /** Begins the migration, and listens to its events from the start. */
  constructor(
    vm: StoredVm,
    { uri, begin, isRecovery, qemuLog, noAnswerMs = NO_ANSWER_MS }: CloneOptions,
    status: Pick<StatusLine, 'note'>,
  ) {
    this.uri = uri
    this.#vm = vm
    this.#status = status
    this.#isRecovery = isRecovery
    this.#qemuLog = qemuLog
    try {
      const source = begin()
      this.source = source
      const ended = new Promise<void>((resolve) => {
        this.#end = resolve
      })
      const noAnswer = setTimeout(() => {
        if (source.state === 'postcopy-active' || isAtRest(source.state)) return
        this.#status.note(`${uri} has not run the guest after ${noAnswerMs} ms; ${NO_ANSWER}`)
      }, noAnswerMs).unref()
      source.on('state', () => this.#stateChanged(source))
      this.result = ended.then(() => {
        clearTimeout(noAnswer)
        return this.#conclude(source)
      })
    } catch (error) {
      this.source = undefined
      this.result = Promise.resolve(this.#notBegun(error))
    }
  }

  /**
   * Pushes the pages that a running guest needs; cancels the migration of one that does not run
   * yet.
   */
  finishOrCancel(): void {
    const { source } = this
    if (source === undefined || isAtRest(source.state)) return
    if (source.state === 'postcopy-active') {
      const text =
        'the guest runs and needs the rest of its memory: sending it now; a second signal ends this process at once, and the guest waits for missing pages until resume --recover'
      this.#status.note(text)
      source.setParameters({ 'x-push-after-quiet-ms': 0 })
      return
    }
    try {
      source.cancel()
    } catch {
      // The guest was handed over, and the destination has not answered since.
      const text = `${this.uri} has not answered yet, and whether the guest runs there is not known: waiting for the answer; a second signal ends this process at once`
      this.#status.note(text)
    }
  }

  /** Stops waiting for this clone; {@link result} has what is known. */
  leave(): void {
    this.#end()
  }

  async close(): Promise<void> {
    await this.source?.close()
  }

  #stateChanged(source: Source): void {
    const { state, counters } = source
    if (state === 'postcopy-device') this.#stage = 'devices'
    if (state === 'postcopy-active' && this.#isRecovery) {
      this.#status.note(`sending the rest of its memory to the guest at ${this.uri}`)
    } else if (state === 'postcopy-active') {
      this.#stoppedMs = counters.stoppedAt + counters.downtimeMs - counters.startedAt
      this.#status.note(
        `the guest runs at ${this.uri}, ${this.#stoppedMs.toFixed(1)} ms after connecting`,
      )
    }
    if (isAtRest(state)) this.#end()
  }

  async #conclude(source: Source): Promise<ResumeResult> {
    const { uri } = this
    const numbers = numbersOf(source)
    const result = { uri, status: source.state, stoppedMs: this.#stoppedMs, ...numbers }
    if (source.state === 'completed') {
      const sent = formatByteSize(numbers.transferredBytes)
      const ms = numbers.durationMs.toFixed(0)
      this.#status.note(`sent all memory to ${uri}: ${sent} in ${ms} ms`)
      return result
    }
    const error = source.error ?? leftError(source)
    const { guestLocation } = source
    const isOver = guestLocation === 'here' && isFinal(source.state)
    const { code, message } = errorToRecord(await this.#explain(source, error, isOver))
    this.#status.note(`${uri}: ${message} [${code}]`)
    const status = isOver ? 'failed' : source.state
    return { ...result, status, guestLocation, error: { code, message } }
  }

  /** Explains once each what happened, where the guest is, and what the user can do. */
  async #explain(source: Source, error: PostcopyError, isOver: boolean): Promise<PostcopyError> {
    const { guestLocation, counters } = source
    const isPaused = source.state === 'postcopy-paused'
    const isRefusal = REFUSALS.includes(error.code)
    const reason = reasonOf(source, error)
    if (this.#isRecovery && isPaused && guestLocation === 'unknown' && isRefusal) {
      return explainRecoveryRefusal(this.#vm, reason, await this.#output())
    }
    // If nothing was sent, the VM is not the reason.
    const wasHeard = this.#stoppedMs !== undefined || this.#isRecovery
    const mayBeRefused = isOver || (isPaused && !wasHeard)
    const told =
      mayBeRefused && counters.transferredBytes > 0 && isRefusal
        ? explainRefusal(this.#vm, reason, await this.#evidence())
        : reason
    // The error of a clone that was left in postcopy-device already says this.
    if (guestLocation === 'here' || (guestLocation === 'unknown' && !isPaused)) return told
    const advice = guestLocation === 'unknown' ? this.#ifUnknown() : this.#ifElsewhere(source)
    const { path } = this.#vm
    const kept = reason instanceof KernelError ? `Restore ${path} first` : `${path} is unchanged`
    const message = `${sentence(told.message)} ${advice}. ${kept}`
    return new PostcopyError(told.code, message, { cause: told })
  }

  #ifUnknown(): string {
    const sent = this.#isRecovery ? 'The' : 'The guest was sent, but the'
    return `${sent} destination has not confirmed that it has the guest: whether it runs there is not known. Check there (info status): if it has the guest (running or paused), ${GO_ON}; otherwise end that QEMU before you resume again`
  }

  /** A destination that has confirmed the guest may have ended since. */
  #ifElsewhere({ counters }: Source): string {
    const whole =
      counters.remainingPages === 0
        ? 'If its migration is completed (info migrate), it has all of the memory. '
        : ''
    // A spill is not the whole VM.
    const again = this.#vm.isWhole
      ? '; a plain resume into a new QEMU starts it from the parked state'
      : ''
    return `${whole}If the QEMU there still runs, its guest waits for the rest of its memory: ${GO_ON}. If that QEMU has ended, the guest is lost there${again}`
  }

  async #evidence(): Promise<RefusalEvidence> {
    const output = await this.#output()
    return { stage: this.#stage, ...(output === undefined ? {} : { output }) }
  }

  async #output(): Promise<string | undefined> {
    return await this.#qemuLog?.read((text) => this.#status.note(text))
  }

  #notBegun(cause: unknown): ResumeResult {
    const { code, message } = errorToRecord(cause)
    this.#status.note(`${this.uri}: ${message} [${code}]`)
    const none = { stoppedMs: undefined, durationMs: 0, transferredBytes: 0, normalPages: 0 }
    const pages = { zeroPages: 0, requestedPages: 0, replayedPages: 0 }
    return { uri: this.uri, status: 'failed', ...none, ...pages, error: { code, message } }
  }
}

/** The error of a clone that a signal has left before it was at rest. */
function leftError({ state }: Source): PostcopyError {
  const text =
    state === 'postcopy-device'
      ? 'ended by a signal before the destination answered: whether the guest runs there is not known. Check in its monitor (info status) before you start another copy; if it is postcopy-paused, resume --recover continues the migration'
      : `ended by a signal in the state ${state}`
  return new PostcopyError('ERR_INTERRUPTED', text)
}

function numbersOf(source: Source): Omit<ResumeResult, 'uri' | 'status' | 'stoppedMs' | 'error'> {
  const { startedAt, endedAt, transferredBytes, normalPages, zeroPages } = source.counters
  const { requestedPages, replayedPages } = source.counters
  const durationMs = Math.max(0, endedAt - startedAt)
  return { durationMs, transferredBytes, normalPages, zeroPages, requestedPages, replayedPages }
}

/** Why it has ended, without the library's advice, because the command has its own. */
function reasonOf({ state, guestLocation, counters }: Source, error: PostcopyError): PostcopyError {
  const hasAdvice = guestLocation === 'unknown' || counters.remainingPages === 0
  const { cause } = error
  return state === 'postcopy-paused' && hasAdvice && cause instanceof PostcopyError ? cause : error
}
