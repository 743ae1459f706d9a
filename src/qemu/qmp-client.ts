/** A client of QMP, QEMU's monitor protocol, on a unix socket. It only waits in the event loop. */
import { EventEmitter } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { errorToRecord } from '../errors.js'
import { JsonSplitter } from '../monitor/internal.js'
import { peerProcessId } from '../kernel/index.js'
import { descriptorOf, unixUri } from '../net/index.js'
import { printable } from '../printable.js'
import { QmpError, QmpRefusal } from './qmp-error.js'

/** For the greeting and for each answer. */
const TIMEOUT_MS = 30_000

export interface QmpEvent {
  readonly event: string
  readonly data: Readonly<Record<string, unknown>>
}

export interface QmpVersion {
  readonly major: number
  readonly minor: number
  readonly micro: number
}

export interface QmpClientOptions {
  /** Limit for the connection with its greeting, and for each answer. Default 30 s. */
  readonly timeoutMs?: number
}

interface Pending {
  readonly command: string
  readonly resolve: (result: unknown) => void
  readonly reject: (error: QmpError) => void
  readonly timer: NodeJS.Timeout
}

type Message = Readonly<Record<string, unknown>>

/** Emits `event` for each event of QEMU, and `close` once. */
export class QmpClient extends EventEmitter<{ event: [QmpEvent]; close: [] }> {
  readonly path: string
  readonly #socket: Socket
  readonly #timeoutMs: number
  readonly #splitter = new JsonSplitter()
  readonly #pending = new Map<number, Pending>()
  #lastId = 0
  #version: QmpVersion = { major: 0, minor: 0, micro: 0 }
  #onGreeting: (() => void) | undefined
  #failure: QmpError | undefined
  #peerPid = 0
  #isConnected = false

  /**
   * Connects, reads the greeting, and negotiates.
   *
   * @param path - of QEMU's socket
   * @throws QmpError `ERR_QMP_…`; PostcopyError `ERR_INVALID_URI` for a path of more than 107 bytes
   */
  static async connect(path: string, options: QmpClientOptions = {}): Promise<QmpClient> {
    const client = new QmpClient(unixUri(path, 'QMP address').path, options.timeoutMs ?? TIMEOUT_MS)
    try {
      await client.#greeting()
      await client.execute('qmp_capabilities')
      return client
    } catch (error) {
      client.close()
      throw error
    }
  }

  private constructor(path: string, timeoutMs: number) {
    super()
    this.path = path
    this.#timeoutMs = timeoutMs
    this.#socket = createConnection(path)
    this.#socket.on('connect', () => {
      this.#isConnected = true
      this.#peerPid = peerProcessId(descriptorOf(this.#socket))
    })
    this.#socket.on('data', (bytes: Uint8Array) => this.#receive(bytes))
    this.#socket.on('error', (error) => {
      // After the connection, `close` follows and has the better message.
      if (this.#isConnected) return
      const { code, message } = errorToRecord(error)
      const text = `cannot connect to QMP at unix:${path}: ${message}`
      this.#fail(
        new QmpError('ERR_QMP_CONNECT', code === 'ENOENT' ? `${text}: no such socket` : text),
      )
    })
    this.#socket.on('close', () => {
      this.#fail(new QmpError('ERR_QMP_CLOSED', `QEMU closed the QMP connection at unix:${path}`))
      this.emit('close')
    })
  }

  get version(): QmpVersion {
    return this.#version
  }

  /** Of the process that listens at the socket; 0 if it is in another pid namespace. */
  get peerPid(): number {
    return this.#peerPid
  }

  get isClosed(): boolean {
    return this.#failure !== undefined
  }

  /**
   * Sends one command and resolves with its `return`.
   *
   * @throws QmpRefusal with QEMU's own `desc`; QmpError `ERR_QMP_CLOSED`, `ERR_QMP_TIMEOUT`
   */
  execute(command: string, args?: object): Promise<unknown> {
    const { promise, resolve, reject } = deferred()
    if (this.#failure !== undefined) {
      reject(unanswered(this.#failure, command))
      return promise
    }
    const id = (this.#lastId += 1)
    const timer = setTimeout(() => {
      this.#pending.delete(id)
      const text = `QEMU has not answered ${command} for ${this.#timeoutMs} ms`
      reject(new QmpError('ERR_QMP_TIMEOUT', text))
    }, this.#timeoutMs)
    this.#pending.set(id, { command, resolve, reject, timer })
    const request = { execute: command, id, ...(args === undefined ? {} : { arguments: args }) }
    this.#socket.write(`${JSON.stringify(request)}\n`)
    return promise
  }

  /** Runs a command of the human monitor and resolves with its text. */
  async hmp(line: string): Promise<string> {
    const text = await this.execute('human-monitor-command', { 'command-line': line })
    return typeof text === 'string' ? text : ''
  }

  /** May be called twice. Pending commands reject with `ERR_QMP_CLOSED`. */
  close(): void {
    this.#fail(new QmpError('ERR_QMP_CLOSED', `the QMP connection to unix:${this.path} was closed`))
    this.#socket.destroy()
  }

  async #greeting(): Promise<void> {
    const { promise, resolve, reject } = deferred()
    const timer = setTimeout(() => {
      const text = `unix:${this.path} has sent no QMP greeting for ${this.#timeoutMs} ms: QEMU serves one client of a QMP socket at a time, so another one may be connected; give QEMU a second -qmp`
      reject(new QmpError('ERR_QMP_TIMEOUT', text))
    }, this.#timeoutMs)
    this.#pending.set(0, { command: 'the greeting', resolve, reject, timer })
    this.#onGreeting = () => this.#take(0)?.resolve(undefined)
    await promise
  }

  #receive(bytes: Uint8Array): void {
    for (const piece of this.#splitter.split(bytes)) {
      if (this.#failure !== undefined) return
      const value = 'value' in piece ? piece.value : undefined
      if (!isMessage(value)) {
        const why = 'error' in piece ? piece.error : printable(JSON.stringify(value))
        this.#fail(new QmpError('ERR_QMP_PROTOCOL', `unix:${this.path} is not QMP: ${why}`))
        this.#socket.destroy()
        return
      }
      this.#message(value)
    }
  }

  #message(message: Message): void {
    if (isMessage(message['QMP'])) {
      this.#version = versionOf(message['QMP'])
      this.#onGreeting?.()
      this.#onGreeting = undefined
      return
    }
    if (typeof message['event'] === 'string') {
      const data = isMessage(message['data']) ? message['data'] : {}
      this.emit('event', { event: message['event'], data })
      return
    }
    const { id, error } = message
    // An answer without a known id is to a command that has timed out.
    const pending = typeof id === 'number' && id > 0 ? this.#take(id) : undefined
    if (isMessage(error)) {
      const [errorClass, desc] = [String(error['class']), String(error['desc'])]
      pending?.reject(new QmpRefusal(pending.command, errorClass, desc))
    } else pending?.resolve(message['return'])
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id)
    this.#pending.delete(id)
    clearTimeout(pending?.timer)
    return pending
  }

  /** The first failure counts. */
  #fail(failure: QmpError): void {
    this.#failure ??= failure
    for (const id of [...this.#pending.keys()]) {
      const pending = this.#take(id)
      pending?.reject(unanswered(this.#failure, pending.command))
    }
  }
}

function unanswered(failure: QmpError, command: string): QmpError {
  if (failure.code === 'ERR_QMP_CONNECT') return failure
  return new QmpError(failure.code, `no answer to ${command}: ${failure.message}`, {
    cause: failure,
  })
}

function deferred(): {
  promise: Promise<unknown>
  resolve: (result: unknown) => void
  reject: (error: QmpError) => void
} {
  let resolve: (result: unknown) => void = () => undefined
  let reject: (error: QmpError) => void = () => undefined
  const promise = new Promise<unknown>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}

function versionOf(greeting: Message): QmpVersion {
  const { version } = greeting
  const qemu = isMessage(version) ? version['qemu'] : undefined
  const number = (key: string): number => (isMessage(qemu) ? Number(qemu[key]) || 0 : 0)
  return { major: number('major'), minor: number('minor'), micro: number('micro') }
}

function isMessage(value: unknown): value is Message {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
