/** Waits until a socket is connected, until a timeout or an abort. */
import type net from 'node:net'
import { ConnectionError } from '../errors.js'

export interface ConnectTimeout {
  /** Milliseconds until the attempt fails. */
  readonly timeoutMs: number
  /** Aborts the attempt at once. */
  readonly signal: AbortSignal
}

/** The awaited event, and the errors for a failure. */
export interface Establishing {
  readonly event: 'connect' | 'secureConnect'
  /** The start of each error message, such as `cannot connect to tcp:…`; the reason follows. */
  readonly cannot: string
  /** Error code of a timeout. */
  readonly lateCode: string
  explain(error: NodeJS.ErrnoException): ConnectionError
}

/**
 * Resolves when `socket` emits the awaited event. Otherwise destroys it.
 *
 * @throws ConnectionError
 */
export function established(
  socket: net.Socket,
  wanted: Establishing,
  { timeoutMs, signal }: ConnectTimeout,
): Promise<void> {
  const { event, cannot, lateCode } = wanted
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', abort)
      socket.off(event, succeed).off('error', refuse)
    }
    const fail = (error: ConnectionError): void => {
      settle()
      // Ignore later errors: an `error` event without a listener would throw.
      socket.on('error', () => undefined)
      socket.destroy()
      reject(error)
    }
    const succeed = (): void => {
      settle()
      resolve()
    }
    const refuse = (error: NodeJS.ErrnoException): void => fail(wanted.explain(error))
    const abort = (): void => fail(new ConnectionError('ABORT_ERR', `${cannot}: cancelled`))
    const timer = setTimeout(
      () => fail(new ConnectionError(lateCode, `${cannot}: no answer within ${timeoutMs} ms`)),
      timeoutMs,
    )
    socket.once('error', refuse)
    socket.once(event, succeed)
    signal.addEventListener('abort', abort)
    if (signal.aborted) abort()
  })
}
