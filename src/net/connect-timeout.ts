/** Waits until a socket can be used, and no longer than it may. */
import type net from 'node:net'
import { ConnectionError } from '../errors.js'

export interface ConnectTimeout {
  /** Milliseconds until it is given up. */
  readonly timeoutMs: number
  /** Gives up at once. */
  readonly signal: AbortSignal
}

/** What is waited for, and the words for what goes wrong. */
export interface Establishing {
  readonly event: 'connect' | 'secureConnect'
  /** `cannot connect to tcp:…`, in front of the reason. */
  readonly cannot: string
  /** Code of what took too long. */
  readonly lateCode: string
  explain(error: NodeJS.ErrnoException): ConnectionError
}

/**
 * Resolves when `event` has come. Otherwise the socket is destroyed.
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
      // What it may still say concerns nobody.
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
