/**
 * Writes the return path to a source. Messages are collected while the source's bytes are decoded,
 * so that a flood of pings costs one write. Unread messages are limited, so that a source that
 * never reads cannot make them grow.
 */
import { PeerError } from '../errors.js'
import { encodePageRequest, encodeRecvBitmap, Writer } from '../stream/index.js'
import type { Channel } from '../net/index.js'

export class ReturnPathWriter {
  /** The source reads the return path. */
  isOpen = false
  readonly #mostUnreadBytes: number
  readonly #out = new Writer()
  #channel: Channel | undefined
  /** Blocks whose received bitmaps were requested, and the total bytes of these bitmaps. */
  readonly #bitmaps = new Set<string>()
  #bitmapBytes = 0

  /** @param mostUnreadBytes - `x-max-unread-bytes` */
  constructor(mostUnreadBytes: number) {
    this.#mostUnreadBytes = mostUnreadBytes
  }

  /** Sets the connection to write to. */
  connect(channel: Channel): void {
    this.#channel = channel
  }

  /** Adds a message, sent by the next {@link flush}. */
  queue(put: (out: Writer) => void): void {
    if (this.isOpen) put(this.#out)
  }

  /** Avoids allocating a closure per fault. See {@link encodePageRequest}. */
  queueRequest(name: string | undefined, offset: number, lengthBytes: number): void {
    if (this.isOpen) encodePageRequest(this.#out, name, offset, lengthBytes)
  }

  /** Sends a message at once, after those that were queued. */
  send(put: (out: Writer) => void): void {
    this.queue(put)
    this.flush()
  }

  /** @throws PeerError `ERR_PEER_PROTOCOL` for a block that was requested before */
  queueBitmap(name: string, received: Uint8Array): void {
    if (this.#bitmaps.has(name)) {
      const text = `the source requested the received bitmap of "${name}" twice`
      throw new PeerError('ERR_PEER_PROTOCOL', text)
    }
    this.#bitmaps.add(name)
    this.#bitmapBytes += received.length
    this.queue((out) => encodeRecvBitmap(out, name, received))
  }

  /** @returns whether there was anything to send */
  flush(): boolean {
    if (this.#out.length === 0) return false
    const bytes = this.#out.take()
    if (this.#channel?.broken === false) this.#channel.write(bytes)
    return true
  }

  /** @throws PeerError `ERR_PEER_UNREAD` if the source leaves too many bytes unread */
  checkUnread(): void {
    const unread = (this.#channel?.unsentBytes ?? 0) - this.#bitmapBytes
    if (unread <= this.#mostUnreadBytes) return
    throw new PeerError(
      'ERR_PEER_UNREAD',
      `the source does not read the return path: ${unread} bytes are unread, more than ${this.#mostUnreadBytes} (x-max-unread-bytes)`,
    )
  }
}
