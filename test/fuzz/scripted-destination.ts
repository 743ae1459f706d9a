/**
 * A destination that sends scripted messages at each moment of a migration, over a real socket.
 */
import { once } from 'node:events'
import net from 'node:net'
import type { MigrationUri } from '../../src/net/uri.js'
import * as stream from '../../src/stream/index.js'

/** When it sends a message: after it has received this. */
export const moments = ['connected', 'blocks', 'bitmaps', 'package', 'resume', 'end'] as const
export type Moment = (typeof moments)[number]

export type Word =
  | { readonly type: 'pong' | 'shut'; readonly value: number }
  | {
      readonly type: 'request'
      readonly block: string
      readonly start: number
      readonly length: number
    }
  | { readonly type: 'bitmap'; readonly block: string; readonly bytes: Uint8Array }
  | { readonly type: 'ack' | 'close' | 'reset' }
  | { readonly type: 'raw'; readonly bytes: Uint8Array }

export interface Script {
  readonly words: Readonly<Record<Moment, readonly Word[]>>
  readonly answersPings: boolean
  /** In a recovery it sends these on request, unless the script sends others. */
  readonly bitmaps: ReadonlyMap<string, Uint8Array> | undefined
}

export class ScriptedDestination {
  /** Received pages, by block and offset. */
  readonly pages = new Set<string>()
  saidShut: number | undefined
  readonly uri: MigrationUri
  readonly #server: net.Server
  readonly #script: Script
  readonly #resume: stream.StreamDecoderOptions['resume']
  readonly #sockets = new Set<net.Socket>()

  static async listen(
    script: Script,
    resume: stream.StreamDecoderOptions['resume'],
  ): Promise<ScriptedDestination> {
    const server = net.createServer({ allowHalfOpen: true })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new ScriptedDestination(server, script, resume)
  }

  private constructor(
    server: net.Server,
    script: Script,
    resume: stream.StreamDecoderOptions['resume'],
  ) {
    this.#server = server
    this.#script = script
    this.#resume = resume
    const address = server.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    this.uri = { type: 'tcp', host: '127.0.0.1', port }
    server.on('connection', (socket) => this.#serve(socket))
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #serve(socket: net.Socket): void {
    this.#sockets.add(socket)
    socket.on('error', () => undefined)
    const { bitmaps, answersPings } = this.#script
    let asked = 0
    const pong = (value: number): void => {
      if (answersPings) this.#say(socket, { type: 'pong', value })
    }
    const count = (name: string, offset: number): void => void this.pages.add(`${name}:${offset}`)
    const decoder = new stream.StreamDecoder(
      {
        ping: pong,
        ramPage: count,
        ramZero: count,
        ramBlocks: () => this.#at('blocks', socket),
        packaged: (blob) => {
          this.#at('package', socket)
          for (const value of stream.findPackagePings(blob).pings) pong(value)
        },
        recvBitmap: (block) => {
          asked += 1
          if (asked === bitmaps?.size) this.#at('bitmaps', socket)
          const bytes = bitmaps?.get(block)
          if (bytes !== undefined) this.#say(socket, { type: 'bitmap', block, bytes })
        },
        resume: () => {
          this.#at('resume', socket)
          this.#say(socket, { type: 'ack' })
        },
        endOfStream: () => {
          this.#at('end', socket)
          // Some SHUT must end the migration.
          if (this.saidShut === undefined) this.#say(socket, { type: 'shut', value: 0 })
        },
      },
      this.#resume === undefined ? {} : { resume: this.#resume },
    )
    const feeder = new stream.StreamFeeder(decoder)
    socket.on('data', (chunk) => {
      try {
        feeder.push(chunk)
      } catch {
        socket.destroy()
      }
    })
    socket.on('end', () => socket.end())
    this.#at('connected', socket)
  }

  #at(moment: Moment, socket: net.Socket): void {
    for (const word of this.#script.words[moment]) this.#say(socket, word)
  }

  #say(socket: net.Socket, word: Word): void {
    if (socket.destroyed || socket.writableEnded) return
    switch (word.type) {
      case 'close':
        socket.end()
        return
      case 'reset':
        socket.resetAndDestroy()
        return
      case 'shut':
        this.saidShut ??= word.value
        break
      default:
    }
    socket.write(stream.encode((out) => encodeWord(out, word)))
  }
}

function encodeWord(out: stream.Writer, word: Word): void {
  switch (word.type) {
    case 'pong':
      stream.encodePong(out, word.value)
      break
    case 'shut':
      stream.encodeShut(out, word.value)
      break
    case 'request':
      stream.encodePageRequest(out, word.block, word.start, word.length)
      break
    case 'bitmap':
      stream.encodeRecvBitmap(out, word.block, word.bytes)
      break
    case 'ack':
      stream.encodeResumeAck(out)
      break
    case 'raw':
      out.bytes(word.bytes)
      break
    case 'close':
    case 'reset':
  }
}
