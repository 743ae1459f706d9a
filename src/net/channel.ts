/**
 * One connection of a migration. It reads into one buffer for its whole life, and passes the
 * received bytes to a consumer, which returns how many bytes it took.
 */
import net from 'node:net'
import { availableParallelism } from 'node:os'
import type { TLSSocket } from 'node:tls'
import { ConnectionError, PeerError } from '../errors.js'
import { duplicateFd, sendNow, setSocketOption, spinUntilReadable } from '../kernel/index.js'
import { MAX_LOOK_AHEAD_BYTES } from '../stream/index.js'
import { type ConnectTimeout, established } from './connect-timeout.js'
import { refuseTls, secureClient, sslError } from './tls.js'
import type { TlsClient } from './tls-credentials.js'

/** A read of fewer bytes is a short message, such as a page request: acknowledge it at once. */
const SMALL_READ_BYTES = 4096
/** The kernel's keepalive time has a resolution of one second. */
const MIN_KEEPALIVE_MS = 1000
/** The size of a batch: a lower limit would split each batch into several writes. */
const MOST_UNSENT_BYTES = 1024 * 1024
const RECEIVE_BUFFER_BYTES = 1024 * 1024
/** The gate only peeks while the role is unknown: leave room in the buffer for the next read. */
const FIRST_READ_BYTES = 64 * 1024

const CAN_SPIN = availableParallelism() > 1

/**
 * Takes what it can of `bytes[start, end)` and returns how many bytes it took. The next call gets
 * the rest again, followed by newly received bytes. The consumer may overwrite this part of the
 * buffer.
 */
export type Consumer = (bytes: Uint8Array, start: number, end: number) => number

export interface ChannelEvents {
  consume: Consumer
  /** Called after each read was consumed, for example to handle other pending work. */
  afterRead?: () => void
  /** The peer has closed its side. */
  end: () => void
  /** The connection is closed, by this end, the peer or an error; called once. */
  close: (error: ConnectionError | undefined) => void
}

export class Channel {
  /** The address of the peer, for messages. */
  readonly peer: string
  readonly #socket: net.Socket
  readonly #buffer = new Uint8Array(RECEIVE_BUFFER_BYTES)
  #head = 0
  #tail = 0
  #events: ChannelEvents | undefined
  #isStarted = false
  /** Whether this end has written since the last read. */
  #hasWritten = false
  #error: ConnectionError | undefined
  /** The descriptor of a TCP connection while it is open. */
  #tcpFd: number | undefined
  readonly #isTls: boolean
  /** The connection uses TLS, or the consumer has taken bytes of it. */
  #hasBegun: boolean

  private constructor(
    makeSocket: (onread: net.OnReadOpts) => net.Socket,
    peer: string,
    isTls = false,
  ) {
    this.peer = peer
    this.#socket = makeSocket({
      buffer: () => this.#nextBuffer(),
      callback: (count: number) => this.#received(count),
    })
    this.#isTls = isTls
    this.#hasBegun = isTls
    this.#socket.on('end', () => this.#events?.end())
    // `get error` reads the reason from the socket, maybe before this event.
    this.#socket.on('error', () => undefined)
    this.#socket.on('close', () => this.#closed())
  }

  /**
   * @param tls - undefined: plaintext
   * @throws ConnectionError with the errno name (`ECONNREFUSED`, `ETIMEDOUT`, …) and the peer;
   *   `ERR_TLS_…` where the handshake fails
   */
  static async connect(
    options: net.SocketConnectOpts,
    peer: string,
    patience: ConnectTimeout,
    tls?: TlsClient,
  ): Promise<Channel> {
    if (tls !== undefined) {
      const raw = net.connect(options)
      await connected(raw, peer, patience)
      return Channel.secured(await secureClient(raw, peer, tls, patience), peer)
    }
    const channel = new Channel(
      (onread) => net.connect({ ...options, onread, allowHalfOpen: true }),
      peer,
    )
    await connected(channel.#socket.pause(), peer, patience)
    return channel
  }

  /** Takes over a connection whose handshake is done. */
  static secured(socket: TLSSocket, peer: string): Channel {
    return new Channel(() => socket, peer, true)
  }

  /** Takes over a connection that a server accepted and paused. Duplicates its descriptor. */
  static accept(accepted: net.Socket, peer: string): Channel {
    const fd = duplicateFd(descriptorOf(accepted))
    accepted.destroy()
    return new Channel((onread) => {
      // Documented for the constructor too, but @types/node knows it for connect() only.
      const options: net.SocketConstructorOpts & { onread: net.OnReadOpts } = {
        fd,
        onread,
        allowHalfOpen: true,
      }
      return new net.Socket(options)
    }, peer)
  }

  /**
   * Makes the kernel close the connection when the peer's host has been silent for `timeoutMs`: it
   * acknowledged neither data nor keepalive probes, or its receive window stayed 0. A peer process
   * that is only stopped does not time out as long as its host answers. 0: never.
   *
   * @see tcp(7), TCP_USER_TIMEOUT and TCP_KEEPIDLE
   */
  detectSilence(timeoutMs: number): void {
    if (timeoutMs === 0 || this.#socket.remoteFamily === undefined) return
    this.#socket.setKeepAlive(true, Math.max(MIN_KEEPALIVE_MS, timeoutMs / 3))
    setSocketOption(descriptorOf(this.#socket), 'TCP_USER_TIMEOUT', timeoutMs)
  }

  /**
   * Starts to pass received bytes to `events`; a second call replaces them. If the connection is
   * closed already, `close` is called nevertheless.
   */
  start(events: ChannelEvents): void {
    const isStarted = this.#isStarted
    this.#isStarted = true
    this.#events = events
    if (this.#socket.closed) {
      if (this.#tail > this.#head) this.#consume()
      setImmediate(() => this.#closed())
      return
    }
    if (isStarted || this.#socket.destroyed) {
      if (this.#tail > this.#head) this.#consume()
      return
    }
    if (this.#socket.remoteFamily !== undefined) {
      this.#socket.setNoDelay(true)
      // Otherwise a requested page would queue after megabytes that the kernel has not sent yet.
      this.#tcpFd = descriptorOf(this.#socket)
      setSocketOption(this.#tcpFd, 'TCP_NOTSENT_LOWAT', MOST_UNSENT_BYTES)
    }
    if (this.#tail > this.#head) this.#consume()
    // Node decrypts into its own buffers, so `onread` is not available.
    if (this.#isTls) this.#socket.on('data', (bytes: Uint8Array) => this.#take(bytes))
    this.#socket.resume()
    this.#socket.read(0)
  }

  /**
   * Writes `bytes`, which must not change until `written` is called. It gets an error if the
   * kernel did not take all bytes.
   */
  write(bytes: Uint8Array, written?: (error: Error | null | undefined) => void): void {
    this.#hasWritten = true
    const taken = this.#sendNow(bytes)
    if (taken === bytes.length) written?.(undefined)
    else this.#socket.write(bytes.subarray(taken), written)
  }

  /** Writes directly to the socket; returns how many bytes the kernel took. */
  #sendNow(bytes: Uint8Array): number {
    const fd = this.directFd
    return fd === undefined ? 0 : sendNow(fd, bytes)
  }

  /** The descriptor for direct writes; undefined with TLS and while Node's queue is not empty. */
  get directFd(): number | undefined {
    const { writable, writableLength } = this.#socket
    return this.#isTls || !writable || writableLength > 0 ? undefined : this.#tcpFd
  }

  /**
   * Polls for the peer's answer without sleeping, until this connection or `otherFd` is readable or
   * the time is over. Does nothing on a single processor, because the peer may need it.
   */
  spin(microseconds: number, otherFd = this.#tcpFd): void {
    if (this.#tcpFd === undefined || otherFd === undefined || this.broken) return
    if (microseconds > 0 && CAN_SPIN) spinUntilReadable(this.#tcpFd, otherFd, microseconds)
  }

  /** Written bytes that the kernel has not taken yet. */
  get unsentBytes(): number {
    return this.#socket.writableLength
  }

  /**
   * Rejects a TLS source that never reads. A TLS server sends data after the handshake: Node's
   * always sends session tickets. If a source closes with unread data, its kernel resets the
   * connection and drops what it has not sent yet.
   *
   * @param hasReturnPath - the source reads, and closes only after our last message
   * @throws PeerError `ERR_PEER_CAPABILITY`
   */
  checkReturnPath(hasReturnPath: boolean): void {
    if (hasReturnPath || !this.#isTls) return
    throw new PeerError(
      'ERR_PEER_CAPABILITY',
      'with TLS the source must wait for an answer, otherwise the end of its stream may be lost: turn on the capability return-path (or postcopy-ram) on the source',
    )
  }

  get broken(): boolean {
    return this.#socket.destroyed
  }

  /** What broke the connection; undefined while it is open, and after a close without an error. */
  get error(): ConnectionError | undefined {
    const cause: NodeJS.ErrnoException | null = this.#socket.errored
    if (cause !== null) {
      const text = `connection with ${this.peer}: ${cause.message}`
      this.#error ??=
        sslError(cause, this.peer) ??
        new ConnectionError(cause.code ?? 'ERR_CONNECTION', text, { cause })
    }
    return this.#error
  }

  /**
   * Half-closes the connection after all written bytes were sent. Does nothing with TLS, whose
   * close_notify is data: a peer that closes without reading it resets the connection. There the
   * last message of the stream marks the end.
   */
  endWriting(): void {
    if (!this.#isTls) this.#socket.end()
  }

  /** Closes at once; `close` is called with `reason`, or with the error that broke it before. */
  destroy(reason?: ConnectionError): void {
    this.#error ??= reason
    this.#socket.destroy()
  }

  #closed(): void {
    this.#tcpFd = undefined
    const events = this.#events
    this.#events = undefined
    events?.close(this.error)
  }

  #nextBuffer(): Uint8Array {
    if (this.#head === this.#tail) {
      this.#head = 0
      this.#tail = 0
    } else if (this.#buffer.length - this.#tail < MAX_LOOK_AHEAD_BYTES) {
      this.#buffer.copyWithin(0, this.#head, this.#tail)
      this.#tail -= this.#head
      this.#head = 0
    }
    return this.#buffer.subarray(
      this.#tail,
      this.#hasBegun ? this.#buffer.length : this.#tail + FIRST_READ_BYTES,
    )
  }

  #take(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && !this.broken;) {
      const room = this.#nextBuffer()
      const piece = bytes.subarray(at, at + room.length)
      room.set(piece)
      at += piece.length
      this.#received(piece.length)
    }
  }

  #received(count: number): boolean {
    this.#tail += count
    if (this.#events === undefined) return false
    this.#hasWritten = false
    this.#consume()
    if (this.#isFull) {
      this.destroy(this.#overrun())
      return false
    }
    const isSmall = count < SMALL_READ_BYTES && !this.#hasWritten
    if (this.#tcpFd !== undefined && !this.#socket.destroyed && isSmall) {
      // QEMU does not turn Nagle's algorithm off: its next page request waits for this ACK, which
      // the kernel would delay by 40 ms. The option lasts only until the next ACK. It is not needed
      // after a write, because the written data carries the ACK.
      setSocketOption(this.#tcpFd, 'TCP_QUICKACK', 1)
    }
    return true
  }

  /** The buffer is full and the consumer has taken nothing of it: there is no room for a read. */
  get #isFull(): boolean {
    return this.#tail - this.#head === this.#buffer.length
  }

  #overrun(): ConnectionError {
    return new ConnectionError(
      'ERR_CONNECTION_FULL',
      `${this.peer} sent ${this.#buffer.length} bytes that cannot be decoded; is it the source of this migration?`,
    )
  }

  #consume(): void {
    const events = this.#events
    if (events === undefined || this.#isUnexpectedTls()) return
    this.#head += events.consume(this.#buffer, this.#head, this.#tail)
    this.#hasBegun ||= this.#head > 0
    events.afterRead?.()
  }

  /** Destroys a plaintext connection whose first bytes are a TLS record. */
  #isUnexpectedTls(): boolean {
    if (this.#hasBegun) return false
    const error = refuseTls(this.#buffer, this.#head, this.#tail, this.peer)
    if (error === undefined) return false
    this.#head = this.#tail
    this.destroy(error)
    return true
  }
}

function connected(socket: net.Socket, peer: string, patience: ConnectTimeout): Promise<void> {
  const cannot = `cannot connect to ${peer}`
  const explain = ({ code, message }: NodeJS.ErrnoException): ConnectionError => {
    const hint = code === 'ECONNREFUSED' ? '; is a destination listening there?' : ''
    return new ConnectionError(code ?? 'ERR_CONNECTION', `${cannot}: ${message}${hint}`)
  }
  return established(socket, { event: 'connect', cannot, lateCode: 'ETIMEDOUT', explain }, patience)
}

/** The descriptor of a socket: Node has it only on the handle. */
export function descriptorOf(socket: net.Socket): number {
  const handle: unknown = Reflect.get(socket, '_handle')
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : -1
  if (typeof fd !== 'number' || fd < 0) {
    throw new ConnectionError('ERR_CONNECTION_CLOSED', 'the connection closed before it was used')
  }
  return fd
}
