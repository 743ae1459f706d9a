/**
 * One connection of a migration: reads into one buffer for its whole life, and hands whole
 * elements to a consumer that says how many bytes it took.
 */
import net from 'node:net'
import { ConnectionError } from '../errors.js'
import { duplicateFd, setSocketOption } from '../kernel/index.js'
import { MAX_LOOK_AHEAD_BYTES } from '../stream/index.js'

/** What comes in so few bytes is a message that somebody waits for. */
const SMALL_READ_BYTES = 4096
/** The kernel counts in seconds. */
const MIN_KEEPALIVE_MS = 1000
const RECEIVE_BUFFER_BYTES = 1024 * 1024

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
  #error: ConnectionError | undefined
  /** Of a TCP connection, while it is open. */
  #tcpFd: number | undefined

  private constructor(makeSocket: (onread: net.OnReadOpts) => net.Socket, peer: string) {
    this.peer = peer
    this.#socket = makeSocket({
      buffer: () => this.#nextBuffer(),
      callback: (count: number) => this.#received(count),
    })
    this.#socket.on('end', () => this.#events?.end())
    // The reason is asked for where it is needed, which may be before this event.
    this.#socket.on('error', () => undefined)
    this.#socket.on('close', () => {
      this.#tcpFd = undefined
      const events = this.#events
      this.#events = undefined
      events?.close(this.error)
    })
  }

  /**
   * @param timeoutMs - gives up after so long
   * @throws ConnectionError with the errno name (`ECONNREFUSED`, `ETIMEDOUT`, …) and the peer
   */
  static connect(
    options: net.SocketConnectOpts,
    peer: string,
    { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal },
  ): Promise<Channel> {
    return new Promise((resolve, reject) => {
      const channel = new Channel(
        (onread) => net.connect({ ...options, onread, allowHalfOpen: true }),
        peer,
      )
      const socket = channel.#socket.pause()
      const fail = (code: string, why: string): void => {
        settle()
        socket.destroy()
        reject(new ConnectionError(code, `cannot connect to ${peer}: ${why}`))
      }
      const refused = (error: NodeJS.ErrnoException): void => {
        const hint = error.code === 'ECONNREFUSED' ? '; does a destination listen there?' : ''
        fail(error.code ?? 'ERR_CONNECTION', `${error.message}${hint}`)
      }
      const abort = (): void => fail('ABORT_ERR', 'cancelled')
      const timer = setTimeout(
        () => fail('ETIMEDOUT', `no answer within ${timeoutMs} ms`),
        timeoutMs,
      )
      const settle = (): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', abort)
        socket.off('error', refused)
      }
      socket.once('error', refused)
      socket.once('connect', () => {
        settle()
        resolve(channel)
      })
      signal.addEventListener('abort', abort)
      if (signal.aborted) abort()
    })
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

  /** Starts handing over what arrives; a second call hands it to somebody else. */
  start(events: ChannelEvents): void {
    const isStarted = this.#isStarted
    this.#isStarted = true
    this.#events = events
    if (isStarted) {
      if (this.#tail > this.#head) this.#consume()
      return
    }
    if (this.#socket.remoteFamily !== undefined) {
      this.#socket.setNoDelay(true)
      // A requested page must not stand behind megabytes that the kernel has not even sent.
      this.#tcpFd = descriptorOf(this.#socket)
      setSocketOption(this.#tcpFd, 'TCP_NOTSENT_LOWAT', 128 * 1024)
    }
    if (this.#tail > this.#head) this.#consume()
    this.#socket.resume()
    this.#socket.read(0)
  }

  /**
   * Writes `bytes`, which must stay as they are until `written` is called; with an error if the
   * kernel did not take all of them.
   */
  write(bytes: Uint8Array, written?: (error: Error | null | undefined) => void): void {
    this.#socket.write(bytes, written)
  }

  /** Bytes that were written, and the kernel has not taken. */
  get unsentBytes(): number {
    return this.#socket.writableLength
  }

  get broken(): boolean {
    return this.#socket.destroyed
  }

  /** What broke it; undefined while it is whole, and where somebody closed it. */
  get error(): ConnectionError | undefined {
    const cause: NodeJS.ErrnoException | null = this.#socket.errored
    if (cause !== null) {
      const text = `connection with ${this.peer}: ${cause.message}`
      this.#error ??= new ConnectionError(cause.code ?? 'ERR_CONNECTION', text, { cause })
    }
    return this.#error
  }

  /** Says that nothing more will be written, after what was written has gone. */
  endWriting(): void {
    this.#socket.end()
  }

  /** Closes at once; `close` is called with `reason`, or with what broke it before. */
  destroy(reason?: ConnectionError): void {
    this.#error ??= reason
    this.#socket.destroy()
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
    return this.#buffer.subarray(this.#tail)
  }

  #received(count: number): boolean {
    this.#tail += count
    if (this.#tcpFd !== undefined && count < SMALL_READ_BYTES) {
      // A QEMU does not turn Nagle's algorithm off: its next page request waits for this ACK,
      // which would be held back for 40 ms. The option lasts until the next ACK only.
      setSocketOption(this.#tcpFd, 'TCP_QUICKACK', 1)
    }
    if (this.#events === undefined) return false
    this.#consume()
    return true
  }

  #consume(): void {
    const events = this.#events
    if (events === undefined) return
    this.#head += events.consume(this.#buffer, this.#head, this.#tail)
    events.afterRead?.()
  }
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
