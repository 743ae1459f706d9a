/**
 * The second connection of postcopy-preempt: requested pages, as bare records. It may be idle
 * until the first of them comes, and says nothing about itself (protocol section 8).
 *
 * In clear a stranger's silent connection looks the same. Where several connections may be the
 * channel, all are read, and the first one that brings a page is it.
 */
import type { ConnectionError } from '../errors.js'
import type { Channel } from '../net/index.js'
import { PreemptDecoder, type RamBlockInfo, type RamHandler } from '../stream/index.js'

export interface PreemptEvents {
  /** Records were taken. */
  placed(): void
  /** The source has ended it: by its end mark, or by closing it. */
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
  /** It was made after the source's first connection, as the preempt channel is. */
  #expected: Channel | undefined
  /** It has brought a page. */
  #chosen: Channel | undefined
  #reading: Reading | undefined
  #over = false

  /** No page will come by it any more. */
  get isOver(): boolean {
    return this.#over || this.#candidates.size === 0
  }

  /** Whether the connection that is expected after the source's first one is there. */
  get hasExpected(): boolean {
    return this.#expected !== undefined
  }

  /** A connection that was made after the source's first one; what it has sent waits in it. */
  add(channel: Channel): void {
    this.#expected = channel
    this.#offer(channel)
  }

  /** A silent connection that was made before the source's first one. */
  addEarly(channel: Channel): void {
    this.#offer(channel)
  }

  /** Begins to take pages, also from connections that are added later. A second call does nothing. */
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
    /** Ends the channel, or only takes this connection from those that may be it. */
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
