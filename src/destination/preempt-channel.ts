/**
 * The second connection of postcopy-preempt: requested pages, as bare records. It may be idle
 * until the first of them comes, and says nothing about itself (protocol section 8).
 */
import type { ConnectionError } from '../errors.js'
import type { Channel } from '../migration/channel.js'
import { PreemptDecoder, type RamBlockInfo, type RamHandler } from '../stream/index.js'

export interface PreemptEvents {
  /** Records were taken. */
  placed(): void
  /** The source has ended it: by its end mark, or by closing it. */
  ended(marked: boolean): void
  failed(error: unknown): void
}

export class PreemptChannel {
  readonly #channel: Channel
  #over = false

  constructor(channel: Channel) {
    this.#channel = channel
  }

  /** No page will come by it any more. */
  get isOver(): boolean {
    return this.#over
  }

  /** Begins to take pages; what has come before waits in the channel. */
  start(handler: RamHandler, blocks: readonly RamBlockInfo[], events: PreemptEvents): void {
    const decoder = new PreemptDecoder(handler, blocks)
    const once = (report: () => void): void => {
      if (this.#over) return
      this.#over = true
      report()
    }
    this.#channel.start({
      consume: (bytes, start, end) => {
        if (this.#over) return end - start
        try {
          const taken = decoder.write(bytes, start, end)
          events.placed()
          if (decoder.finished) once(() => events.ended(true))
          return taken
        } catch (error) {
          once(() => events.failed(error))
          return end - start
        }
      },
      end: () => once(() => events.ended(false)),
      close: (error: ConnectionError | undefined) =>
        once(() => {
          if (error === undefined) events.ended(false)
          else events.failed(error)
        }),
    })
  }

  /** See {@link Channel.spin}. */
  spin(microseconds: number, otherFd: number): void {
    this.#channel.spin(microseconds, otherFd)
  }

  close(): void {
    this.#over = true
    this.#channel.destroy()
  }
}
