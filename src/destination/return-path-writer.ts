/**
 * What is said to a source on the return path. It is collected while the source's bytes are taken,
 * so that a flood of pings costs one write; and a source that asks and never reads what it is told
 * cannot make it pile up.
 */
import { PeerError } from '../errors.js'
import { encodePageRequest, encodeRecvBitmap, Writer } from '../stream/index.js'
import type { Channel } from '../net/index.js'

export class ReturnPathWriter {
  /** The source listens. */
  isOpen = false
  readonly #mostUnreadBytes: number
  readonly #out = new Writer()
  #channel: Channel | undefined
  /** Blocks whose received bitmap was asked for, and the bytes of these. */
  readonly #bitmaps = new Set<string>()
  #bitmapBytes = 0

  /** @param mostUnreadBytes - `x-max-unread-bytes` */
  constructor(mostUnreadBytes: number) {
    this.#mostUnreadBytes = mostUnreadBytes
  }

  /** From here on there is somebody to talk to. */
  connect(channel: Channel): void {
    this.#channel = channel
  }

  /** To be said by the next {@link flush}. */
  queue(put: (out: Writer) => void): void {
    if (this.isOpen) put(this.#out)
  }

  /** A function less for each fault. See {@link encodePageRequest}. */
  queueRequest(name: string | undefined, offset: number, lengthBytes: number): void {
    if (this.isOpen) encodePageRequest(this.#out, name, offset, lengthBytes)
  }

  /** Says it at once, and what was collected before it. */
  send(put: (out: Writer) => void): void {
    this.queue(put)
    this.flush()
  }

  /** @throws PeerError `ERR_PEER_PROTOCOL` for a block that was asked for before */
  queueBitmap(name: string, received: Uint8Array): void {
    if (this.#bitmaps.has(name)) {
      const text = `the source asks for the received bitmap of "${name}" a second time`
      throw new PeerError('ERR_PEER_PROTOCOL', text)
    }
    this.#bitmaps.add(name)
    this.#bitmapBytes += received.length
    this.queue((out) => encodeRecvBitmap(out, name, received))
  }

  /** @returns whether there was anything to say */
  flush(): boolean {
    if (this.#out.length === 0) return false
    const bytes = this.#out.take()
    if (this.#channel?.broken === false) this.#channel.write(bytes)
    return true
  }

  /** @throws PeerError `ERR_PEER_UNREAD` where the source does not read what it is told */
  checkUnread(): void {
    const unread = (this.#channel?.unsentBytes ?? 0) - this.#bitmapBytes
    if (unread <= this.#mostUnreadBytes) return
    throw new PeerError(
      'ERR_PEER_UNREAD',
      `the source does not read what it is told: ${unread} bytes wait, more than ${this.#mostUnreadBytes} (x-max-unread-bytes)`,
    )
  }
}
