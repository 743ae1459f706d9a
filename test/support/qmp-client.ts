/** A client of the QEMU Machine Protocol, for QEMU and for us: it must not see a difference. */
import { once } from 'node:events'
import { type NetConnectOpts, type Socket, createConnection } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export interface QmpEvent {
  event: string
  data?: Record<string, unknown>
  timestamp: { seconds: number; microseconds: number }
}

/** An `error` in the answer to a command. */
export class QmpRefusal extends Error {
  readonly errorClass: string
  readonly desc: string

  constructor(command: string, error: { class: string; desc: string }) {
    super(`${command}: ${error.desc}`)
    this.errorClass = error.class
    this.desc = error.desc
  }
}

type Message = Record<string, unknown>

export class QmpClient {
  /** All events since the negotiation. */
  readonly events: QmpEvent[] = []
  /** The statuses that {@link reached} has seen, without repetitions. */
  readonly statuses: string[] = []
  readonly socket: Socket
  readonly #messages: Message[] = []
  #received = ''
  #id = 0

  private constructor(socket: Socket) {
    this.socket = socket
    socket.setEncoding('utf8').on('data', (text: string) => {
      this.#received += text
      const lines = this.#received.split('\n')
      this.#received = lines.pop() ?? ''
      for (const line of lines) {
        const message = JSON.parse(line) as Message
        if ('event' in message) this.events.push(message as unknown as QmpEvent)
        else this.#messages.push(message)
      }
      socket.emit('message')
    })
    // A wait for a message ends when the connection closes.
    socket.on('close', () => socket.emit('message'))
    socket.on('error', () => undefined)
  }

  /** Connects and negotiates. @throws the error of `connect` */
  static async connect(to: NetConnectOpts): Promise<QmpClient> {
    const socket = createConnection(to)
    const client = new QmpClient(socket)
    await once(socket, 'connect')
    await client.message()
    await client.execute('qmp_capabilities')
    return client
  }

  /** The next message that is not an event. */
  async message(): Promise<Message> {
    for (;;) {
      const message = this.#messages.shift()
      if (message !== undefined) return message
      if (this.socket.destroyed) throw new Error('the QMP connection was closed')
      await once(this.socket, 'message')
    }
  }

  /** Sends one command and waits for its answer. @throws QmpRefusal */
  async execute(command: string, args?: object): Promise<unknown> {
    this.#id += 1
    const request = { execute: command, id: this.#id, ...(args && { arguments: args }) }
    this.socket.write(`${JSON.stringify(request)}\n`)
    for (;;) {
      const message = await this.message()
      // The answer of an aborted command may still be here.
      if (message['id'] !== this.#id) continue
      if ('error' in message) {
        throw new QmpRefusal(command, message['error'] as { class: string; desc: string })
      }
      return message['return']
    }
  }

  /** The class and the text of a command's refusal. */
  async refusal(command: string, args?: object): Promise<string> {
    try {
      return `not refused: ${JSON.stringify(await this.execute(command, args))}`
    } catch (error) {
      if (error instanceof QmpRefusal) return `${error.errorClass}: ${error.desc}`
      throw error
    }
  }

  async enable(...capabilities: string[]): Promise<void> {
    await this.execute('migrate-set-capabilities', {
      capabilities: capabilities.map((capability) => ({ capability, state: true })),
    })
  }

  /** Waits until `query-migrate` reports this status, and returns its answer. */
  async reached(status: string): Promise<Message> {
    let last: Message = {}
    for (const deadline = Date.now() + 20_000; Date.now() < deadline;) {
      last = (await this.execute('query-migrate')) as Message
      const now = last['status']
      if (typeof now === 'string' && now !== this.statuses.at(-1)) this.statuses.push(now)
      if (now === status) return last
      await sleep(20)
    }
    throw new Error(`never ${status}: ${JSON.stringify(last)}`)
  }

  /** Waits for an event, including past ones. */
  async told(event: string, data: Message = {}): Promise<QmpEvent> {
    const matches = (one: QmpEvent): boolean =>
      one.event === event && Object.entries(data).every(([key, value]) => one.data?.[key] === value)
    for (;;) {
      const found = this.events.find(matches)
      if (found !== undefined) return found
      if (this.socket.destroyed) throw new Error(`closed before ${event} ${JSON.stringify(data)}`)
      await once(this.socket, 'message')
    }
  }

  close(): void {
    this.socket.destroy()
  }
}
