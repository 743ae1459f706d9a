/**
 * A few large buffers, used in turn: one is filled while the kernel takes another. In steady state
 * no page needs an allocation, and the buffers bound the unsent bytes.
 */
import type { Channel } from './channel.js'

const BUFFERS = 3

export class BatchWriter {
  readonly #channel: Channel
  readonly #free: Uint8Array[]
  #wake: (() => void) | undefined
  #abandoned = false

  constructor(channel: Channel, batchBytes: number) {
    this.#channel = channel
    this.#free = Array.from({ length: BUFFERS }, () => new Uint8Array(batchBytes))
  }

  /** The next buffer to fill. Waits until one is free; undefined after {@link abandon}. */
  async take(): Promise<Uint8Array | undefined> {
    for (;;) {
      if (this.#abandoned) return undefined
      const buffer = this.#free.pop()
      if (buffer !== undefined) return buffer
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  /** The next buffer to fill, if one is free. */
  tryTake(): Uint8Array | undefined {
    return this.#abandoned ? undefined : this.#free.pop()
  }

  /** Sends `[start, end)` of a buffer from {@link take}; the buffer is free again once written. */
  send(buffer: Uint8Array, start: number, end: number): void {
    this.#channel.write(buffer.subarray(start, end), () => this.giveBack(buffer))
  }

  /** Returns a buffer from {@link take} to the free ones. */
  giveBack(buffer: Uint8Array): void {
    this.#free.push(buffer)
    this.#wakeTaker()
  }

  /** Ends a wait in {@link take}, which otherwise lasts as long as the peer does not read. */
  abandon(): void {
    this.#abandoned = true
    this.#wakeTaker()
  }

  #wakeTaker(): void {
    this.#wake?.()
    this.#wake = undefined
  }
}
