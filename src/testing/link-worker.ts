/** The thread of a {@link LinkProxy}. */
import net from 'node:net'
import { parentPort } from 'node:worker_threads'
import { runWorker, workerInput } from '../migration/index.js'
import type { LinkNotice, LinkRequest, LinkWorkerData } from './link-protocol.js'

const { host, state, cuts } = workerInput() as LinkWorkerData
const cutCount = new Int32Array(cuts)

/** Bytes delayed by latency before reading is paused. */
const MAX_HELD_BYTES = 8 * 2 ** 20

/** One direction of a connection. */
class Flow {
  readonly #from: net.Socket
  readonly #to: net.Socket
  #heldBytes = 0
  #isFull = false
  #left: number
  #hasPassed = false
  readonly #cutOff: () => void
  readonly #isDropped: (isFirst: boolean) => boolean

  constructor(
    from: net.Socket,
    to: net.Socket,
    limits: {
      letsBytes: number
      cutOff: () => void
      /** @param isFirst - nothing has passed yet */
      isDropped: (isFirst: boolean) => boolean
    },
  ) {
    this.#from = from
    this.#to = to
    this.#left = limits.letsBytes
    this.#cutOff = limits.cutOff
    this.#isDropped = limits.isDropped
    from.on('data', (bytes) => this.#take(bytes))
    from.on('end', () => this.#later(() => to.end()))
    to.on('drain', () => {
      this.#isFull = false
      this.update()
    })
    this.update()
  }

  /** Pauses or resumes reading, according to the current state. */
  update(): void {
    if (state.isSilent || this.#isFull || this.#heldBytes > MAX_HELD_BYTES) this.#from.pause()
    else this.#from.resume()
  }

  #take(bytes: Buffer): void {
    if (this.#isDropped(!this.#hasPassed)) return
    this.#hasPassed = true
    const lets = bytes.subarray(0, Math.min(this.#left, bytes.length))
    this.#left -= lets.length
    this.#heldBytes += lets.length
    this.#later(() => {
      this.#heldBytes -= lets.length
      this.#isFull = !this.#to.write(lets)
      if (this.#left === 0) this.#cutOff()
      else this.update()
    })
    this.update()
  }

  /** Timers of equal length fire in order. */
  #later(act: () => void): void {
    if (state.latencyMs > 0) setTimeout(act, state.latencyMs)
    else act()
  }
}

class Connection {
  readonly #sockets: readonly [net.Socket, net.Socket]
  readonly #flows: readonly Flow[]

  constructor(source: net.Socket) {
    const target = net.connect({ ...state.target, allowHalfOpen: true })
    this.#sockets = [source, target]
    for (const socket of this.#sockets) {
      socket.setNoDelay(true)
      socket.on('error', () => undefined)
      socket.on('close', () => this.#close())
    }
    this.#flows = [
      // The bytes below the limit must arrive, so end() flushes them before the cut.
      new Flow(source, target, {
        letsBytes: state.cutAfterBytes,
        cutOff: () => {
          target.end()
          source.destroy()
          this.#countCut()
        },
        isDropped: () => false,
      }),
      new Flow(target, source, {
        letsBytes: Infinity,
        cutOff: () => undefined,
        isDropped: (isFirst) =>
          state.dropsAnswers === 'after-first' ? !isFirst : state.dropsAnswers,
      }),
    ]
  }

  update(): void {
    for (const flow of this.#flows) flow.update()
  }

  cut(): void {
    this.#countCut()
    for (const socket of this.#sockets) {
      if (socket.remoteFamily === undefined) socket.destroy()
      else socket.resetAndDestroy()
    }
  }

  #countCut(): void {
    if (connections.delete(this)) Atomics.add(cutCount, 0, 1)
  }

  #close(): void {
    connections.delete(this)
    // A side whose end() was called may still have to receive the bytes before the end.
    for (const socket of this.#sockets) if (!socket.writableEnded) socket.destroy()
  }
}

const connections = new Set<Connection>()

function notify(notice: LinkNotice): void {
  parentPort?.postMessage(notice)
}

function obey({ id, change, cut }: LinkRequest): void {
  Object.assign(state, change)
  for (const connection of connections) {
    if (cut) connection.cut()
    else connection.update()
  }
  notify({ type: 'done', id })
}

const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, (source) => {
  connections.add(new Connection(source))
})

runWorker(() => {
  parentPort?.on('message', obey)
  server.listen(0, host, () => {
    const address = server.address()
    if (typeof address === 'object' && address !== null) {
      notify({ type: 'listening', port: address.port })
    }
  })
})
