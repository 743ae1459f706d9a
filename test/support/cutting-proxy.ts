/** A TCP proxy that cuts every connection after some bytes from the source, or at once. */
import { once } from 'node:events'
import net from 'node:net'
import { cleanups } from './cleanup.js'
import { portOf } from './fake-peer.js'

export class CuttingProxy {
  readonly uri: string
  /** Where connections go. */
  target: string
  /** Bytes of the source that the next connection lets through; then both sides are reset. */
  cutAfterBytes: number
  cuts = 0
  readonly #pairs = new Set<readonly [net.Socket, net.Socket]>()

  static async listen(target: string, cutAfterBytes = Infinity): Promise<CuttingProxy> {
    const server = net.createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const proxy = new CuttingProxy(server, target, cutAfterBytes)
    cleanups.add(() => {
      server.close()
      proxy.cut()
    })
    return proxy
  }

  private constructor(server: net.Server, target: string, cutAfterBytes: number) {
    const address = server.address()
    if (typeof address !== 'object' || address === null) throw new Error('no address')
    this.uri = `tcp:127.0.0.1:${address.port}`
    this.target = target
    this.cutAfterBytes = cutAfterBytes
    server.on('connection', (source) => this.#join(source))
  }

  /** Resets all connections. */
  cut(): void {
    for (const pair of this.#pairs) {
      this.cuts += 1
      for (const socket of pair) socket.resetAndDestroy()
    }
    this.#pairs.clear()
  }

  #join(source: net.Socket): void {
    const destination = net.connect(portOf(this.target), '127.0.0.1')
    const pair = [source, destination] as const
    this.#pairs.add(pair)
    let left = this.cutAfterBytes
    const end = (): void => {
      this.#pairs.delete(pair)
      for (const socket of pair) socket.destroy()
    }
    for (const socket of pair) socket.on('error', end).on('close', end)
    destination.pipe(source)
    source.on('data', (bytes) => {
      const lets = bytes.subarray(0, Math.min(left, bytes.length))
      left -= lets.length
      if (!destination.write(lets)) {
        source.pause()
        destination.once('drain', () => source.resume())
      }
      if (left === 0) {
        // What was let through has to arrive: that is the byte that it was about.
        this.cuts += 1
        this.#pairs.delete(pair)
        source.removeAllListeners('data')
        source.destroy()
        destination.end()
      }
    })
    source.on('end', () => destination.end())
  }
}
