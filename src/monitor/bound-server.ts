/**
 * A listening socket for a later server, so that an address that fails does so before anything
 * starts.
 */
import net from 'node:net'
import { type Listening, listenOn, type MigrationUri } from '../net/index.js'
import { MAX_CLIENTS } from './limits.js'

export class BoundServer {
  readonly #server: net.Server
  #listening: Listening | undefined
  /** Clients that have connected before {@link serve}. */
  readonly #early = new Set<net.Socket>()
  #take: (socket: net.Socket) => void = (socket) => {
    this.#early.add(socket)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.#early.delete(socket))
  }

  /** @throws ConnectionError if it cannot listen */
  static async listen(uri: MigrationUri): Promise<BoundServer> {
    const bound = new BoundServer()
    bound.#listening = await listenOn(bound.#server, uri)
    // One connection that cannot be accepted must not end the process.
    bound.#server.on('error', () => undefined)
    return bound
  }

  private constructor() {
    this.#server = net.createServer({ allowHalfOpen: true }, (socket) => this.#take(socket))
    this.#server.maxConnections = MAX_CLIENTS
  }

  /** Where it listens, with the port that the kernel picked. */
  get uri(): MigrationUri | undefined {
    return this.#listening?.uri
  }

  /** @param take - called for each client, first for those that are already connected */
  serve(take: (socket: net.Socket) => void): void {
    this.#take = take
    for (const socket of this.#early) take(socket)
    this.#early.clear()
  }

  /** Accepts no more clients; those that were served stay. May be called twice. */
  close(): void {
    this.#listening?.close()
    this.#listening = undefined
    for (const socket of this.#early) socket.destroy()
  }
}
