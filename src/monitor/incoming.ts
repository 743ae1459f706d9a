/** The incoming side: one destination at a time, made anew when what it was told has changed. */
import { Destination, type DestinationOptions } from '../destination/index.js'
import { StateError } from '../errors.js'
import { closedByOwner, type MigratableMachine } from '../migration/index.js'

export interface IncomingHost {
  /** What a destination is made with, now. */
  options(): Omit<DestinationOptions, 'uri'>
  /** There is a destination, and it listens. */
  listening(destination: Destination): void
}

export class Incoming {
  readonly #machine: MigratableMachine
  readonly #host: IncomingHost
  #destination: Destination | undefined
  /** Clients of several monitors may ask at the same time: one after another. */
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
   * @throws ConnectionError where it cannot; StateError where one is there that did not fail;
   *   PostcopyError `ERR_CLOSED` after {@link close}
   */
  listen(uri: string): Promise<string> {
    return this.#inTurn(async () => {
      if (this.#isClosed) throw closedByOwner('monitor')
      const before = this.#destination
      if (before !== undefined && before.state !== 'failed') {
        throw new StateError(
          'ERR_STATE_INCOMING',
          `an incoming migration is there already, on ${before.uri}`,
          before.state,
        )
      }
      await before?.close()
      return this.#listen(uri)
    })
  }

  /** A destination takes its capabilities when it begins to listen. */
  refresh(): Promise<void> {
    return this.#inTurn(async () => {
      const waiting = this.#destination
      if (this.#isClosed || waiting?.state !== 'setup') return
      // Nothing failed: another one takes its place.
      waiting.removeAllListeners()
      await waiting.close()
      await this.#listen(waiting.uri)
    })
  }

  /** Nothing listens afterwards. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#inTurn(async () => this.#destination?.close())
  }

  async #listen(uri: string): Promise<string> {
    this.#destination = undefined
    const destination = await Destination.listen(this.#machine, { uri, ...this.#host.options() })
    this.#destination = destination
    // close() waits for this, and closes it.
    if (!this.#isClosed) this.#host.listening(destination)
    return destination.uri
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work)
    this.#last = result.catch(() => undefined)
    return result
  }
}
