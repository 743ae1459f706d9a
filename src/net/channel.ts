/**
 * One connection of a migration: reads into one buffer for its whole life, and hands whole
 * elements to a consumer that says how many bytes it took.
 */
import net from 'node:net'
import { availableParallelism } from 'node:os'
import { TLSSocket } from 'node:tls'
import { ConnectionError, PeerError } from '../errors.js'
import { duplicateFd, sendNow, setSocketOption, spinUntilReadable } from '../kernel/index.js'
import { MAX_LOOK_AHEAD_BYTES } from '../stream/index.js'
import { type ConnectTimeout, established } from './connect-timeout.js'
import { refuseTls, secureClient, sslError } from './tls.js'
import type { TlsClient } from './tls-credentials.js'

/** What comes in so few bytes is a message that somebody waits for. */
const SMALL_READ_BYTES = 4096
/** The kernel counts in seconds. */
const MIN_KEEPALIVE_MS = 1000
/** A batch: less makes several writes of it. */
const MOST_UNSENT_BYTES = 1024 * 1024
const RECEIVE_BUFFER_BYTES = 1024 * 1024
/** Whoever asks who is there takes nothing, and behind it there must be room for the next read. */
const FIRST_READ_BYTES = 64 * 1024

const CAN_SPIN = availableParallelism() > 1

/**
 * Takes what it can of `bytes[start, end)` and returns how many bytes it took; the rest comes
 * again with more behind it. It may write into that part of the buffer.
 */
export type Consumer = (bytes: Uint8Array, start: number, end: number) => number

export interface ChannelEvents {
  consume: Consumer
  /** After each read was consumed: the place to look at other things that wait. */
  afterRead?: () => void
  /** The peer has closed its side. */
  end: () => void
  /** The connection is gone, by whoever's doing; called once. */
  close: (error: ConnectionError | undefined) => void
}

export class Channel {
  /** Who is at the other end, for messages. */
  readonly peer: string
  readonly #socket: net.Socket
  readonly #buffer = new Uint8Array(RECEIVE_BUFFER_BYTES)
  #head = 0
  #tail = 0
  #events: ChannelEvents | undefined
  #isStarted = false
  /** Since the last read. */
  #hasWritten = false
  #error: ConnectionError | undefined
  /** Of a TCP connection, while it is open. */
  #tcpFd: number | undefined
  readonly #isTls: boolean
  /** The consumer has taken something: it is let in, and no TLS where that is not wanted. */
  #hasBegun: boolean

  private constructor(makeSocket: (onread: net.OnReadOpts) => net.Socket, peer: string) {
    this.peer = peer
    this.#socket = makeSocket({
      buffer: () => this.#nextBuffer(),
      callback: (count: number) => this.#received(count),
    })
    this.#isTls = this.#socket instanceof TLSSocket
    this.#hasBegun = this.#isTls
    this.#socket.on('end', () => this.#events?.end())
    // The reason is asked for where it is needed, which may be before this event.
    this.#socket.on('error', () => undefined)
    this.#socket.on('close', () => this.#closed())
  }

  /**
   * @param tls - undefined: in clear
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
    return new Channel(() => socket, peer)
  }

  /** Takes over a connection that a server accepted and paused, by a descriptor of its own. */
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
   * Takes the connection for broken when the peer's host has been silent for so long: it
   * acknowledges neither data nor keepalive probes, or has had no room for more. 0: never. A peer
   * that is only stopped, and its host not, is waited for.
   *
   * @see tcp(7), TCP_USER_TIMEOUT and TCP_KEEPIDLE
   */
  detectSilence(timeoutMs: number): void {
    if (timeoutMs === 0 || this.#socket.remoteFamily === undefined) return
    this.#socket.setKeepAlive(true, Math.max(MIN_KEEPALIVE_MS, timeoutMs / 3))
    setSocketOption(descriptorOf(this.#socket), 'TCP_USER_TIMEOUT', timeoutMs)
  }

  /**
   * Starts handing over what arrives; a second call hands it to somebody else. Of a connection
   * that is gone already `close` is called, as of any other.
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
      // A requested page must not stand behind megabytes that the kernel has not even sent.
      this.#tcpFd = descriptorOf(this.#socket)
      setSocketOption(this.#tcpFd, 'TCP_NOTSENT_LOWAT', MOST_UNSENT_BYTES)
    }
    if (this.#tail > this.#head) this.#consume()
    // Node decrypts into buffers of its own.
    if (this.#isTls) this.#socket.on('data', (bytes: Uint8Array) => this.#take(bytes))
    this.#socket.resume()
    this.#socket.read(0)
  }

  /**
   * Writes `bytes`, which must stay as they are until `written` is called; with an error if the
   * kernel did not take all of them.
   */
  write(bytes: Uint8Array, written?: (error: Error | null | undefined) => void): void {
    this.#hasWritten = true
    const taken = this.#sendNow(bytes)
    if (taken === bytes.length) written?.(undefined)
    else this.#socket.write(bytes.subarray(taken), written)
  }

  /** What the kernel takes now, past Node's queue. */
  #sendNow(bytes: Uint8Array): number {
    const fd = this.directFd
    return fd === undefined ? 0 : sendNow(fd, bytes)
  }

  /** Where bytes may go past Node's queue now: it is empty, and they go as they are. */
  get directFd(): number | undefined {
    const { writable, writableLength } = this.#socket
    return this.#isTls || !writable || writableLength > 0 ? undefined : this.#tcpFd
  }

  /**
   * Looks for what the peer answers to what was just written, without sleeping: until something
   * has come, here or on `otherFd`. Nothing happens where there is a single processor, which the
   * peer may need.
   */
  spin(microseconds: number, otherFd = this.#tcpFd): void {
    if (this.#tcpFd === undefined || otherFd === undefined || this.broken) return
    if (microseconds > 0 && CAN_SPIN) spinUntilReadable(this.#tcpFd, otherFd, microseconds)
  }

  /** Bytes that were written, and the kernel has not taken. */
  get unsentBytes(): number {
    return this.#socket.writableLength
  }

  /**
   * A TLS server says something behind the handshake (Node's always sends tickets). A source that
   * never reads closes with that unread, and its kernel then drops what has not left yet.
   *
   * @param hasReturnPath - the source reads, and closes when it has heard our last word
   * @throws PeerError `ERR_PEER_CAPABILITY`
   */
  checkReturnPath(hasReturnPath: boolean): void {
    if (hasReturnPath || !this.#isTls) return
    throw new PeerError(
      'ERR_PEER_CAPABILITY',
      'with TLS the source must wait for our word, or the end of its stream may be lost: turn on the capability return-path (or postcopy-ram) on the source',
    )
  }

  get broken(): boolean {
    return this.#socket.destroyed
  }

  /** What broke it; undefined while it is whole, and where somebody closed it. */
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
   * Says that nothing more will be written, after what was written has gone. Not so with TLS: its
   * farewell is data, and a peer that closes without reading it resets the connection; there the
   * last word of the stream has to do.
   */
  endWriting(): void {
    if (!this.#isTls) this.#socket.end()
  }

  /** Closes at once; `close` is called with `reason`, or with what broke it before. */
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
      // A QEMU does not turn Nagle's algorithm off: its next page request waits for this ACK,
      // which would be held back for 40 ms. The option lasts until the next ACK only. An answer
      // carries it already.
      setSocketOption(this.#tcpFd, 'TCP_QUICKACK', 1)
    }
    return true
  }

  /** The consumer has taken nothing of a whole buffer: there is no room for a next read. */
  get #isFull(): boolean {
    return this.#tail - this.#head === this.#buffer.length
  }

  #overrun(): ConnectionError {
    return new ConnectionError(
      'ERR_CONNECTION_FULL',
      `${this.peer} sent ${this.#buffer.length} bytes of which nothing could be used; is it a source of this migration?`,
    )
  }

  #consume(): void {
    const events = this.#events
    if (events === undefined || this.#isUnexpectedTls()) return
    this.#head += events.consume(this.#buffer, this.#head, this.#tail)
    this.#hasBegun ||= this.#head > 0
    events.afterRead?.()
  }

  /** What TLS says to an end without it is no stream that can be made sense of. */
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
    const hint = code === 'ECONNREFUSED' ? '; does a destination listen there?' : ''
    return new ConnectionError(code ?? 'ERR_CONNECTION', `${cannot}: ${message}${hint}`)
  }
  return established(socket, { event: 'connect', cannot, lateCode: 'ETIMEDOUT', explain }, patience)
}

/** The descriptor of a socket: Node has it on the handle and nowhere else. */
function descriptorOf(socket: net.Socket): number {
  const handle: unknown = Reflect.get(socket, '_handle')
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : -1
  if (typeof fd !== 'number' || fd < 0) {
    throw new ConnectionError('ERR_CONNECTION_CLOSED', 'the connection closed before it was used')
  }
  return fd
}
