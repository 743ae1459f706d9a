/** A QMP server in this process that answers as a QEMU with a small VM. */
import net, { type Socket } from 'node:net'
import { join } from 'node:path'
import { temporaryFolder } from '../cli/support.js'
import { golden } from '../stream/golden.js'
import { cleanups } from './cleanup.js'

type Arguments = Readonly<Record<string, unknown>>
/** Returns what a command returns; a thrown error is the refusal. */
export type Answer = (args: Arguments) => unknown

interface Request {
  execute: string
  id: number
  arguments?: Arguments
}

export class FakeQemu {
  readonly path: string
  /** Of all commands, in order. */
  readonly commands: string[] = []
  readonly capabilities = new Map<string, boolean>([
    ['events', false],
    ['return-path', false],
    ['postcopy-ram', false],
    ['multifd', true],
    ['pause-before-switchover', false],
  ])
  readonly parameters: Record<string, unknown> = { 'max-bandwidth': 134217728, 'tls-creds': '' }
  runState = 'running'
  migrationStatus: string | undefined
  disks: unknown[] = []
  /** What it sends in a migration; undefined: it connects and sends nothing. */
  stream: Uint8Array | undefined = golden('precopy')
  /** The status after the connection has closed; default: `completed` if anything was sent. */
  endsAs: string | undefined
  errorDesc: string | undefined
  greeting: unknown = {
    QMP: { version: { qemu: { major: 7, minor: 2, micro: 22 } }, capabilities: [] },
  }
  /** Instead of, or in addition to, the usual commands. */
  readonly answers: Record<string, Answer> = {}
  #clients: Socket[] = []
  #outgoing: Socket | undefined

  static async start(): Promise<FakeQemu> {
    const qemu = new FakeQemu(join(await temporaryFolder(), 'qmp'))
    const server = net.createServer((socket) => qemu.#serve(socket))
    await new Promise<void>((resolve) => server.listen(qemu.path, resolve))
    cleanups.add(() => {
      qemu.disconnect()
      qemu.#outgoing?.destroy()
      server.close()
    })
    return qemu
  }

  private constructor(path: string) {
    this.path = path
  }

  get uri(): string {
    return `unix:${this.path}`
  }

  send(message: unknown): void {
    for (const client of this.#clients) client.write(`${JSON.stringify(message)}\r\n`)
  }

  /** Writes bytes that need not be JSON. */
  sendRaw(text: string): void {
    for (const client of this.#clients) client.write(text)
  }

  /** Sends the migration that has begun without a stream. */
  finish(stream: Uint8Array | undefined): void {
    this.stream = stream
    if (stream !== undefined) this.#outgoing?.end(stream)
  }

  disconnect(): void {
    for (const client of this.#clients.splice(0)) client.destroy()
  }

  #serve(socket: Socket): void {
    this.#clients.push(socket)
    if (this.greeting !== undefined) this.send(this.greeting)
    let text = ''
    socket.on('error', () => undefined)
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
      const lines = text.split('\n')
      text = lines.pop() ?? ''
      for (const line of lines) this.#request(JSON.parse(line) as Request)
    })
  }

  #request({ execute, id, arguments: args = {} }: Request): void {
    this.commands.push(execute)
    try {
      const answer = this.answers[execute] ?? this.#usual[execute]
      if (answer === undefined) throw new Error(`The command ${execute} has not been found`)
      const result = answer(args)
      if (result !== 'silence') this.send({ return: result ?? {}, id })
    } catch (error) {
      this.send({ error: { class: 'GenericError', desc: (error as Error).message }, id })
    }
  }

  readonly #usual: Record<string, Answer> = {
    qmp_capabilities: () => ({}),
    'query-status': () => ({ status: this.runState, running: this.runState === 'running' }),
    'query-migrate': () =>
      this.migrationStatus === undefined
        ? {}
        : { status: this.migrationStatus, 'error-desc': this.errorDesc },
    'query-migrate-capabilities': () =>
      [...this.capabilities].map(([capability, state]) => ({ capability, state })),
    'migrate-set-capabilities': ({ capabilities }) => {
      for (const { capability, state } of capabilities as {
        capability: string
        state: boolean
      }[]) {
        this.capabilities.set(capability, state)
      }
    },
    'query-migrate-parameters': () => this.parameters,
    'migrate-set-parameters': (args) => void Object.assign(this.parameters, args),
    'query-block': () => this.disks,
    'query-cpus-fast': () => [{}],
    'query-hotpluggable-cpus': () => [{ 'vcpus-count': 1 }, { 'vcpus-count': 1 }],
    migrate: ({ uri }) => this.#migrate(String(uri).replace('unix:', '')),
    'migrate-start-postcopy': () => ({}),
    migrate_cancel: () => {
      this.#outgoing?.destroy()
      this.migrationStatus = 'cancelled'
      this.runState = 'running'
    },
    cont: () => {
      this.runState = 'running'
    },
    quit: () => {
      setImmediate(() => this.disconnect())
    },
  }

  #migrate(path: string): void {
    this.migrationStatus = 'active'
    const outgoing = net.connect(path)
    this.#outgoing = outgoing
    outgoing.on('error', () => undefined)
    if (this.stream !== undefined) outgoing.end(this.stream)
    outgoing.resume().on('close', () => {
      if (this.migrationStatus !== 'active') return
      this.migrationStatus = this.endsAs ?? (outgoing.bytesWritten > 0 ? 'completed' : 'failed')
      if (this.migrationStatus === 'completed') this.runState = 'postmigrate'
      this.send({ event: 'MIGRATION', data: { status: this.migrationStatus } })
    })
  }
}
