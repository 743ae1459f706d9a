/**
 * One connection with a source, as every end that receives has it: its phase, the answers on the
 * return path, the failure, the last message, and how long the connection stays open after it.
 */
import type { ConnectionError } from '../errors.js'
import { type Counters, now, PhaseMachine, type StateChanged } from '../migration/index.js'
import type { Channel } from '../net/index.js'
import { encodeShut } from '../stream/index.js'
import {
  type IncomingAction,
  type IncomingEvent,
  type IncomingPhase,
  incomingPhases,
} from './phases.js'
import { ReturnPathWriter } from './return-path-writer.js'

export type IncomingActions = Readonly<Partial<Record<IncomingAction, () => void>>>

export interface IncomingSessionOptions {
  readonly phases?: typeof incomingPhases
  readonly initial: IncomingPhase
  readonly counters: Counters
  /** `x-max-unread-bytes`, `x-silence-timeout`. */
  readonly parameters: { 'x-max-unread-bytes': number; 'x-silence-timeout': number }
  /** Milliseconds that the connection stays open for a source that does not close it. */
  readonly lingerMs: number
}

/** What differs between the ends that receive. */
export interface IncomingSessionEvents {
  readonly stateChanged: StateChanged
  /** Takes what it can of `bytes[start, end)`. @returns how many bytes it took */
  decode(bytes: Uint8Array, start: number, end: number): number
  /** After each read was decoded. */
  afterRead(takenBytes: number): void
  /** The source has closed the connection; `cause`: it broke. Not called when it is over. */
  closed(channel: Channel, cause: ConnectionError | undefined): void
  /** Sees to it that the guest is never taken here; false where it was taken before. */
  giveBack(): boolean
  /** What is announced for a failure. Default: the failure itself. */
  explain?(error: unknown): unknown
  /** What the table's actions for a failure do. */
  failureActions(error: unknown): IncomingActions
}

export class IncomingSession {
  readonly returnPath: ReturnPathWriter
  readonly phases: PhaseMachine<IncomingPhase, IncomingEvent, IncomingAction>
  readonly #options: IncomingSessionOptions
  readonly #events: IncomingSessionEvents
  #channel: Channel | undefined

  constructor(options: IncomingSessionOptions, events: IncomingSessionEvents) {
    const { phases = incomingPhases, initial, parameters } = options
    this.#options = options
    this.#events = events
    this.returnPath = new ReturnPathWriter(parameters['x-max-unread-bytes'])
    this.phases = new PhaseMachine(phases, initial, events.stateChanged)
  }

  /** The source's connection; undefined before it was accepted. */
  get channel(): Channel | undefined {
    return this.#channel
  }

  /** Not even a failure changes anything any more. */
  get isOver(): boolean {
    return !this.phases.accepts('failed') && !this.phases.accepts('lost')
  }

  /** SHUT 0 is sent; the source has not closed the connection yet. */
  get hasShut(): boolean {
    return this.phases.is('loaded-shut', 'running-shut')
  }

  /** Takes the migration from this connection, which is the source's. */
  accept(channel: Channel): void {
    channel.detectSilence(this.#options.parameters['x-silence-timeout'])
    this.#channel = channel
    this.returnPath.connect(channel)
    this.begin()
    channel.start({
      consume: (bytes, start, end) => this.take(bytes, start, end),
      end: () => this.#closed(channel, undefined),
      close: (error) => this.#closed(channel, error),
    })
  }

  /** A source is here, or a file. */
  begin(): void {
    const { counters } = this.#options
    if (this.phases.is('recover-setup')) counters.endedAt = 0
    else counters.startedAt = now()
    this.phases.take('connect')
  }

  /** Takes the next bytes of the stream. @returns how many it took */
  take(bytes: Uint8Array, start: number, end: number): number {
    if (this.isOver || this.hasShut) return end - start
    try {
      const taken = this.#events.decode(bytes, start, end)
      this.#options.counters.transferredBytes += taken
      this.#events.afterRead(taken)
      return taken
    } catch (error) {
      this.fail(error)
      return end - start
    }
  }

  /** The state says what became of the guest. Nothing happens when it is over. */
  fail(error: unknown): void {
    if (this.isOver) return
    const event = this.#events.giveBack() ? 'failed' : 'lost'
    const announced = this.#events.explain === undefined ? error : this.#events.explain(error)
    this.phases.take(event, this.#events.failureActions(error), announced)
  }

  /**
   * Sends SHUT, the last message. The source closes the connection after it; otherwise this end
   * does, a while later.
   */
  shut(status: number): void {
    this.returnPath.send((out) => encodeShut(out, status))
    const channel = this.#channel
    if (channel === undefined) return
    if (status !== 0 && !this.returnPath.isOpen) {
      // The source cannot be told: it must not take its bytes for received.
      channel.destroy()
      return
    }
    channel.endWriting()
    setTimeout(() => channel.destroy(), this.#options.lingerMs).unref()
  }

  #closed(channel: Channel, cause: ConnectionError | undefined): void {
    if (!this.isOver) this.#events.closed(channel, cause)
  }
}
