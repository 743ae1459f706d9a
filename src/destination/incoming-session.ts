/**
 * One connection from a source, for every end that receives: its phase, the messages on the return
 * path, the failure, the last message, and how long the connection stays open after that.
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
  /** Milliseconds for which the connection stays open if the source does not close it. */
  readonly lingerMs: number
}

/** What differs between the receiving ends. */
export interface IncomingSessionEvents {
  readonly stateChanged: StateChanged
  /** Decodes what it can of `bytes[start, end)`. @returns how many bytes it took */
  decode(bytes: Uint8Array, start: number, end: number): number
  /** Called after each read was decoded. */
  afterRead(takenBytes: number): void
  /**
   * The source has closed the connection. `cause`: it broke. Not called once the session is over.
   */
  closed(channel: Channel, cause: ConnectionError | undefined): void
  /** Ensures that the guest is never taken here; false if it was taken before. */
  giveBack(): boolean
  /** The error to announce for a failure. Default: the failure itself. */
  explain?(error: unknown): unknown
  /** Implements the table's actions for a failure. */
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

  /** Nothing changes any more, not even after a failure. */
  get isOver(): boolean {
    return !this.phases.accepts('failed') && !this.phases.accepts('lost')
  }

  /** SHUT 0 is sent; the source has not closed the connection yet. */
  get hasShut(): boolean {
    return this.phases.is('loaded-shut', 'running-shut')
  }

  /** Receives the migration from this connection of the source. */
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

  /** A source has connected, or a file was opened. */
  begin(): void {
    const { counters } = this.#options
    // A park's recovery is a migration of its own to its user, and counts from here.
    if (this.phases.state === 'postcopy-recover-setup') counters.endedAt = 0
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

  /**
   * Ends with a failure; the next state depends on where the guest is. Does nothing if it is over.
   */
  fail(error: unknown): void {
    if (this.isOver) return
    const event = this.#events.giveBack() ? 'failed' : 'lost'
    const announced = this.#events.explain === undefined ? error : this.#events.explain(error)
    this.phases.take(event, this.#events.failureActions(error), announced)
  }

  /**
   * Sends SHUT, the last message. The source closes the connection after it; otherwise this end
   * closes it after `lingerMs`.
   */
  shut(status: number): void {
    this.returnPath.send((out) => encodeShut(out, status))
    const channel = this.#channel
    if (channel === undefined) return
    if (status !== 0 && !this.returnPath.isOpen) {
      // Without a return path only an early close keeps the source from treating all as received.
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
