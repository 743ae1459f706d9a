import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import * as stream from '../../src/stream/index.js'
import type { SavedStream } from './saved-stream.js'

/** The source's end of one connection: serves requests, each page once. */
export class Replay {
  readonly socket: Socket
  readonly resumed: Promise<void>
  readonly shut: Promise<void>
  readonly #saved: SavedStream
  readonly #sent: Set<string>
  readonly #chunks: Uint8Array[] = []
  readonly #bitmapsOf = new Set<string>()

  static async connect(port: number, saved: SavedStream, sent: Set<string>): Promise<Replay> {
    for (;;) {
      const socket = createConnection(port, '127.0.0.1')
      try {
        await once(socket, 'connect')
        return new Replay(socket, saved, sent)
      } catch {
        await sleep(50)
      }
    }
  }

  private constructor(socket: Socket, saved: SavedStream, sent: Set<string>) {
    this.socket = socket
    this.#saved = saved
    this.#sent = sent
    let tellResumed: () => void = () => undefined
    let tellShut: () => void = () => undefined
    this.resumed = new Promise((resolve) => (tellResumed = resolve))
    this.shut = new Promise((resolve) => (tellShut = resolve))
    const decoder = new stream.ReturnPathDecoder(
      {
        requestPages: (block, start) => {
          this.#send([[block, start]])
        },
        recvBitmap: (block, bitmap) => {
          this.#bitmapsOf.add(block)
          this.#forgetMissing(block, bitmap)
        },
        resumeAck: () => {
          tellResumed()
        },
        shut: () => {
          tellShut()
        },
      },
      saved.blocks,
    )
    const feeder = new stream.StreamFeeder(decoder)
    socket.on('error', () => undefined)
    socket.on('data', (data) => {
      this.#chunks.push(data)
      feeder.push(data)
    })
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#chunks)
  }

  async bitmaps(count: number): Promise<void> {
    while (this.#bitmapsOf.size < count) await once(this.socket, 'data')
  }

  sendUnsent(share: number): void {
    const pages: [string, number][] = []
    for (const { name, usedLengthBytes } of this.#saved.blocks) {
      for (let at = 0; at < usedLengthBytes * share; at += 4096) pages.push([name, at])
    }
    this.#send(pages)
  }

  #send(pages: [string, number][]): void {
    const unsent = pages.filter(([block, at]) => !this.#sent.has(`${block}@${at}`))
    for (const [block, at] of unsent) this.#sent.add(`${block}@${at}`)
    if (unsent.length > 0) this.socket.write(this.#saved.part(unsent))
  }

  #forgetMissing(block: string, bitmap: Uint8Array): void {
    for (let page = 0; page < bitmap.length * 8; page += 1) {
      const isReceived = ((bitmap[page >> 3] ?? 0) & (1 << (page & 7))) !== 0
      if (!isReceived) this.#sent.delete(`${block}@${page * 4096}`)
    }
  }
}
