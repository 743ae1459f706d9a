/** A connection without a socket that records how it is used, and may keep writes pending. */
import { FakeChannel } from './fake-channel.js'
import { concat } from './records.js'

type Written = (error: Error | null | undefined) => void

export class RecordingChannel extends FakeChannel {
  /** Arguments of the calls, in order. */
  readonly silenceTimeouts: number[] = []
  readonly spins: number[] = []
  /** If true, the kernel takes no bytes: a write is pending until {@link finishWrites}. */
  keepsWrites = false
  /** Called after each write. */
  onWrite: () => void = () => undefined
  #pending: Written[] = []

  /** All bytes that were written. */
  get bytes(): Uint8Array {
    return concat(this.written)
  }

  override detectSilence(timeoutMs = NaN): void {
    this.silenceTimeouts.push(timeoutMs)
  }

  override spin(microseconds = NaN): void {
    this.spins.push(microseconds)
  }

  override write(bytes: Uint8Array, written?: Written): void {
    super.write(bytes, this.keepsWrites ? undefined : written)
    if (this.keepsWrites && written !== undefined) this.#pending.push(written)
    this.onWrite()
  }

  /** Ends the pending writes. @param error - why the kernel did not take them */
  finishWrites(error?: Error): void {
    const pending = this.#pending
    this.#pending = []
    for (const written of pending) written(error)
  }
}
