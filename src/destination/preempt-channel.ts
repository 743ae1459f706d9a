/**
 * The second connection of postcopy-preempt: requested pages, as bare records. It may be idle until
 * the first of them, and does not identify itself (protocol section 8).
 *
 * In plaintext a stranger's silent connection looks the same. If several connections may be the
 * channel, all are read, and the first one that delivers a page is the channel.
 */
import type { ConnectionError } from '../errors.js'
import type { Channel } from '../net/index.js'
import { PreemptDecoder, type RamBlockInfo, type RamHandler } from '../stream/index.js'

export interface PreemptEvents {
  /** Records were placed. */
  placed(): void
  /** The source has ended the channel, by its end mark or by closing it. */
  ended(marked: boolean): void
  failed(error: unknown): void
}

interface Reading {
  readonly handler: RamHandler
  readonly blocks: readonly RamBlockInfo[]
  readonly events: PreemptEvents
}

export class PreemptChannel {
  readonly #candidates = new Set<Channel>()
  /** The connection made after the source's first one, as the preempt channel is. */
  #expected: Channel | undefined
  /** The connection that has delivered a page. */
  #chosen: Channel | undefined
  #reading: Reading | undefined
  #over = false

  /** No more pages will arrive on it. */
  get isOver(): boolean {
    return this.#over || this.#candidates.size === 0
  }

  /** Whether a connection was made after the source's first one, as expected. */
  get hasExpected(): boolean {
    return this.#expected !== undefined
  }

  /** Adds a connection made after the source's first one. It is not read before {@link start}. */
  add(channel: Channel): void {
    this.#expected = channel
    this.#offer(channel)
  }

  /** Adds a silent connection made before the source's first one. */
  addEarly(channel: Channel): void {
    this.#offer(channel)
  }

  /**
   * Begins to take pages, also from connections that are added later. A second call does nothing.
   */
  start(handler: RamHandler, blocks: readonly RamBlockInfo[], events: PreemptEvents): void {
    if (this.#reading !== undefined) return
    this.#reading = { handler, blocks, events }
    for (const channel of [...this.#candidates]) this.#read(channel, this.#reading)
  }

  /** See {@link Channel.spin}. */
  spin(microseconds: number, otherFd: number): void {
    const [first] = this.#candidates
    const channel = this.#chosen ?? this.#expected ?? first
    channel?.spin(microseconds, otherFd)
  }

  close(): void {
    this.#over = true
    for (const channel of this.#candidates) channel.destroy()
    this.#candidates.clear()
  }

  #offer(channel: Channel): void {
    if (this.#over || this.#chosen !== undefined) {
      channel.destroy()
      return
    }
    this.#candidates.add(channel)
    if (this.#reading !== undefined) this.#read(channel, this.#reading)
  }

  #read(channel: Channel, { handler, blocks, events }: Reading): void {
    const decoder = new PreemptDecoder(handler, blocks)
    /** Ends the channel, or only removes this connection from the candidates. */
    const finish = (report: () => void): void => {
      if (this.#over || !this.#candidates.has(channel)) return
      const isChannel = channel === this.#chosen || channel === this.#expected
      if (isChannel) {
        this.#over = true
        report()
      } else {
        this.#candidates.delete(channel)
        channel.destroy()
      }
    }
    channel.start({
      consume: (bytes, start, end) => {
        if (this.#over || !this.#candidates.has(channel)) return end - start
        try {
          const taken = decoder.write(bytes, start, end)
          if (taken > 0) this.#choose(channel)
          events.placed()
          if (decoder.finished) finish(() => events.ended(true))
          return taken
        } catch (error) {
          finish(() => events.failed(error))
          return end - start
        }
      },
      end: () => finish(() => events.ended(false)),
      close: (error: ConnectionError | undefined) =>
        finish(() => {
          if (error === undefined) events.ended(false)
          else events.failed(error)
        }),
    })
  }

  #choose(channel: Channel): void {
    if (this.#chosen !== undefined) return
    this.#chosen = channel
    for (const other of this.#candidates) if (other !== channel) other.destroy()
    this.#candidates.clear()
    this.#candidates.add(channel)
  }
}
