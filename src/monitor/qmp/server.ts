/** QMP on a socket: several clients, whose commands run one after another. */
import type net from 'node:net'
import { formatUri, type MigrationUri, parseUri } from '../../net/index.js'
import { printableJson } from '../../printable.js'
import { PostcopyError } from '../../errors.js'
import { BoundServer } from '../bound-server.js'
import { drained } from '../limits.js'
import { timestamp } from '../timestamp.js'
import { JsonSplitter, type JsonPiece } from './json-splitter.js'
import { type QmpMessage, QmpSession } from './session.js'
import type { QmpEvent, QmpTarget, ShutdownReason } from './target.js'

const SPACE = 0x20
const OPEN_BRACE = 0x7b
/** Error replies to a client before `qmp_capabilities`; the next one closes its connection. */
const MAX_ERRORS_BEFORE_NEGOTIATION = 8
/** Unread bytes of events after which a client is disconnected. */
const MAX_UNREAD_BYTES = 1024 * 1024
/** How long clients may take to read their last messages. */
const LINGER_MS = 500

interface Client {
  readonly socket: net.Socket
  readonly session: QmpSession
  /** Number of error replies it has received. */
  errors: number
}

export interface QmpServerOptions {
  /**
   * Also listen on tcp. QMP has neither passwords nor encryption: every user and program of this
   * host can connect to loopback, and a web page can make a browser connect.
   */
  readonly allowInsecureTcp?: boolean
}

/** @throws PostcopyError as {@link QmpServer.listen} */
export function checkQmpAddress(uri: string, options: QmpServerOptions): MigrationUri {
  const where = parseUri(uri, 'QMP address')
  if (where.type === 'tcp' && options.allowInsecureTcp !== true) {
    throw new PostcopyError(
      'ERR_QMP_INSECURE',
      `QMP on ${uri} has no password: any program that can connect controls the guest, even a web page in a browser on this host. Give unix:PATH, or allow it with --qmp-tcp-insecure (library: allowInsecureTcp)`,
    )
  }
  return where
}

export class QmpServer {
  readonly #target: QmpTarget
  readonly #bound: BoundServer
  readonly #clients = new Set<Client>()
  readonly #stopListening: () => void
  readonly #uri: string
  #last: Promise<unknown> = Promise.resolve()

  /**
   * @param uri - `tcp:HOST:PORT`, on loopback without a host, or `unix:PATH`, accessible to the
   *   owner only
   * @throws ConnectionError if it cannot listen; PostcopyError `ERR_INVALID_URI`,
   *   `ERR_QMP_INSECURE` for tcp without {@link QmpServerOptions.allowInsecureTcp}
   */
  static async listen(
    target: QmpTarget,
    uri: string,
    options: QmpServerOptions = {},
  ): Promise<QmpServer> {
    return QmpServer.serve(target, await QmpServer.bind(uri, options))
  }

  /** Listens for a target that is created later. @throws as {@link QmpServer.listen} */
  static bind(uri: string, options: QmpServerOptions = {}): Promise<BoundServer> {
    return BoundServer.listen(checkQmpAddress(uri, options))
  }

  /** @param bound - from {@link QmpServer.bind}; is closed with the server */
  static serve(target: QmpTarget, bound: BoundServer): QmpServer {
    return new QmpServer(target, bound)
  }

  private constructor(target: QmpTarget, bound: BoundServer) {
    this.#target = target
    this.#stopListening = target.listen((event) => this.#tell(event))
    this.#bound = bound
    this.#uri = bound.uri === undefined ? '' : formatUri(bound.uri)
    bound.serve((socket) => void this.#serve(socket))
  }

  /** Where it listens, with the port that the kernel picked. */
  get uri(): string {
    return this.#uri
  }

  /**
   * Takes no more commands. Resolves when clients have received all messages, or after a timeout.
   *
   * @param reason - sent in a last `SHUTDOWN`, for a target that does not send it itself
   */
  async close(reason?: ShutdownReason): Promise<void> {
    this.#stopListening()
    if (reason !== undefined) this.#tell({ event: 'SHUTDOWN', data: { guest: false, reason } })
    this.#bound.close()
    // The command that is being answered may be the one that ended the process.
    await within(LINGER_MS, this.#last)
    await within(LINGER_MS, Promise.all([...this.#clients].map(({ socket }) => finish(socket))))
    for (const { socket } of this.#clients) socket.destroy()
  }

  async #serve(socket: net.Socket): Promise<void> {
    const client: Client = {
      socket,
      session: new QmpSession(this.#target.control),
      errors: 0,
    }
    this.#clients.add(client)
    socket.setNoDelay(true)
    // Errors of a disconnected client do not matter.
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.#clients.delete(client))
    const splitter = new JsonSplitter()
    send(client, client.session.greeting())
    try {
      // By default the iterator closes both directions when one has ended.
      const chunks = socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>
      let isKnown = false
      for await (const chunk of chunks) {
        // Any other first byte is another protocol, such as HTTP, which may contain JSON.
        const first = chunk.find((byte) => byte > SPACE)
        if (!isKnown && first !== undefined && first !== OPEN_BRACE) throw notQmp()
        isKnown ||= first !== undefined
        await this.#take(client, splitter.split(chunk))
      }
      await this.#take(client, splitter.end())
      socket.end()
    } catch {
      socket.destroy()
    }
  }

  async #take(client: Client, pieces: Iterable<JsonPiece>): Promise<void> {
    for (const piece of pieces) {
      if (client.socket.writableEnded || client.socket.destroyed) return
      const turn = this.#last.then(async () => {
        this.#answer(client, await client.session.answer(piece))
      })
      this.#last = turn
      await turn
      await drained(client.socket)
    }
  }

  #answer(client: Client, message: QmpMessage): void {
    send(client, message)
    if (!('error' in message)) return
    client.errors += 1
    const isLimited = !client.session.negotiated
    if (isLimited && client.errors > MAX_ERRORS_BEFORE_NEGOTIATION) client.socket.destroy()
  }

  #tell(event: QmpEvent): void {
    const message = { timestamp: timestamp(), ...event }
    for (const client of this.#clients) {
      if (!client.session.negotiated) continue
      if (client.socket.writableLength > MAX_UNREAD_BYTES) client.socket.destroy()
      else send(client, message)
    }
  }
}

function send({ socket }: Client, message: QmpMessage): void {
  if (socket.writable) socket.write(`${printableJson(message)}\r\n`)
}

/** Resolves when everything was passed to the kernel, or cannot be any more. */
function finish(socket: net.Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.end(() => resolve())
  })
}

function notQmp(): PostcopyError {
  return new PostcopyError('ERR_QMP_CLIENT', 'the client does not speak QMP')
}

async function within(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const deadline = new Promise((resolve) => {
    timer = setTimeout(resolve, ms)
  })
  await Promise.race([work, deadline])
  clearTimeout(timer)
}
