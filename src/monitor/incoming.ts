/** The incoming side: one destination at a time, created again when its settings change. */
import { Destination, type DestinationOptions } from '../destination/index.js'
import { StateError } from '../errors.js'
import { closedByOwner, type MigratableMachine } from '../migration/index.js'

export interface IncomingHost {
  /** The current options for a new destination. */
  options(): Omit<DestinationOptions, 'uri'>
  /** A destination was created, and listens. */
  listening(destination: Destination): void
}

export class Incoming {
  readonly #machine: MigratableMachine
  readonly #host: IncomingHost
  #destination: Destination | undefined
  /** Serializes the requests, because clients of several monitors may call at the same time. */
  #last: Promise<unknown> = Promise.resolve()
  #isClosed = false

  constructor(machine: MigratableMachine, host: IncomingHost) {
    this.#machine = machine
    this.#host = host
  }

  get destination(): Destination | undefined {
    return this.#destination
  }

  /**
   * @returns where it listens, with the port that the kernel picked
   * @throws ConnectionError if it cannot listen; StateError if there is a destination that has not
   *   failed; PostcopyError `ERR_CLOSED` after {@link close}
   */
  listen(uri: string): Promise<string> {
    return this.#inTurn(async () => {
      if (this.#isClosed) throw closedByOwner('monitor')
      const before = this.#destination
      if (before !== undefined && before.state !== 'failed') {
        throw new StateError(
          'ERR_STATE_INCOMING',
          `an incoming migration exists already, on ${before.uri}`,
          before.state,
        )
      }
      await before?.close()
      return this.#listen(uri)
    })
  }

  /**
   * Applies new capabilities and credentials, which a destination takes when it begins to listen.
   */
  refresh(): Promise<void> {
    return this.#inTurn(async () => {
      const waiting = this.#destination
      if (this.#isClosed || waiting?.state !== 'setup') return
      // This is not a failure, so no listener is called: another destination replaces it.
      waiting.removeAllListeners()
      await waiting.close()
      await this.#listen(waiting.uri)
    })
  }

  /** Closes the destination; none listens after that. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#inTurn(async () => this.#destination?.close())
  }

  async #listen(uri: string): Promise<string> {
    this.#destination = undefined
    const destination = await Destination.listen(this.#machine, { uri, ...this.#host.options() })
    this.#destination = destination
    // A close() in the meantime waits for this, and then closes the destination.
    if (!this.#isClosed) this.#host.listening(destination)
    return destination.uri
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work)
    this.#last = result.catch(() => undefined)
    return result
  }
}
