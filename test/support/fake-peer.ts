/** Peers for tests: the test determines what they send and do, byte by byte. */
import net from 'node:net'
import { once } from 'node:events'
import * as stream from '../../src/stream/index.js'
import { type Event, recordReturnPath, recordStream } from '../stream/events.js'
import { tick } from '../../src/source/signal.js'
import { cleanups } from './cleanup.js'
import type { TestMachine } from './test-machine.js'

const RAM_ID = 2

/** Common to both kinds of peer: a socket, and what was received on it. */
abstract class FakePeer {
  readonly events: Event[] = []
  /** The decoder's error, if it refused the other end's bytes. */
  refused: unknown
  /** The other end has closed or reset the connection. */
  closed = false
  readonly bytes: Buffer[] = []
  #wake: (() => void)[] = []
  protected socket: net.Socket | undefined

  protected attach(socket: net.Socket, decoder: stream.ChannelDecoder): void {
    this.socket = socket
    const feeder = new stream.StreamFeeder(decoder)
    socket.setNoDelay(true)
    socket.on('data', (chunk) => {
      this.bytes.push(chunk)
      try {
        if (this.refused === undefined) feeder.push(chunk)
      } catch (error) {
        this.refused = error
      }
      this.changed()
    })
    const close = (): void => {
      this.closed = true
      this.changed()
    }
    socket.on('error', close)
    socket.on('end', close)
    socket.on('close', close)
  }

  protected changed(): void {
    const wake = this.#wake
    this.#wake = []
    for (const one of wake) one()
  }

  /** Waits until `condition` holds; it is checked whenever something was received. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.closed) throw new Error(`closed; heard ${JSON.stringify(this.events.slice(-20))}`)
      await new Promise<void>((resolve) => this.#wake.push(resolve))
    }
  }

  /** Waits for an event of this name, and returns its arguments. */
  async heard(name: string, ...args: readonly unknown[]): Promise<readonly unknown[]> {
    const find = (): Event | undefined =>
      this.events.find(
        (event) => event[0] === name && args.every((arg, index) => event[index + 1] === arg),
      )
    await this.until(() => find() !== undefined)
    return find()?.slice(1) ?? []
  }

  /** Waits until the other end has closed the connection. */
  async hangsUp(): Promise<void> {
    while (!this.closed) await new Promise<void>((resolve) => this.#wake.push(resolve))
  }

  all(name: string): Event[] {
    return this.events.filter((event) => event[0] === name)
  }

  send(build: ((out: stream.Writer) => void) | Uint8Array): void {
    this.socket?.write(build instanceof Uint8Array ? build : stream.encode(build))
  }

  /** Resolves when the kernel has accepted the bytes, or the connection is closed. */
  sendAll(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      const { socket } = this
      if (socket === undefined || socket.destroyed || !socket.writable) {
        resolve()
        return
      }
      socket.once('close', resolve)
      socket.write(bytes, () => {
        socket.off('close', resolve)
        resolve()
      })
    })
  }

  /** Resets the connection. */
  reset(): void {
    this.socket?.resetAndDestroy()
  }

  /** Ends its writing side. */
  end(): void {
    this.socket?.end()
  }

  /** Stops reading. */
  deafen(): void {
    this.socket?.pause()
  }

  /** Reads one piece, and then stops again. */
  async sip(): Promise<void> {
    const { socket } = this
    const { length } = this.bytes
    socket?.resume()
    if (this.bytes.length === length && !this.closed) {
      await new Promise<void>((resolve) => this.#wake.push(resolve))
    }
    socket?.pause()
    await tick()
  }

  /** Resumes reading. */
  drink(): void {
    this.socket?.resume()
  }
}

/** A source whose elements the test sends. */
export class FakeSource extends FakePeer {
  static async connect(uri: string, machine: TestMachine): Promise<FakeSource> {
    const source = new FakeSource()
    const blocks = machine.blocks.map(({ name, lengthBytes, region }) => ({
      name,
      usedLengthBytes: lengthBytes,
      pageSizeBytes: region.pageSizeBytes,
    }))
    const socket = net.connect({ port: portOf(uri), host: '127.0.0.1', allowHalfOpen: true })
    await once(socket, 'connect')
    source.attach(socket, new stream.ReturnPathDecoder(recordReturnPath(source.events), blocks))
    cleanups.add(() => socket.destroy())
    return source
  }
}

/** A destination that answers as the test determines. */
export class FakeDestination extends FakePeer {
  readonly uri: string
  /** PINGs are answered at once; a test may replace this. */
  onPing: (value: number) => void = (value) => {
    if (this.#hasShut) return
    this.send((out) => {
      stream.encodePong(out, value)
    })
  }
  connections = 0
  #hasShut = false
  readonly #server: net.Server

  static async listen(): Promise<FakeDestination> {
    const server = net.createServer({ allowHalfOpen: true })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new FakeDestination(server)
  }

  private constructor(server: net.Server) {
    super()
    this.#server = server
    const address = server.address()
    if (typeof address !== 'object' || address === null) throw new Error('no address')
    this.uri = `tcp:127.0.0.1:${String(address.port)}`
    const recorder = recordStream(this.events)
    const decoder = new stream.StreamDecoder({
      ...recorder,
      ping: (value) => {
        recorder.ping?.(value)
        this.onPing(value)
      },
      packaged: (blob, offset) => {
        recorder.packaged?.(blob, offset)
        this.package = blob
        // As a destination does that has loaded its devices.
        for (const value of stream.findPackagePings(blob).pings) this.onPing(value)
      },
    })
    server.on('connection', (socket) => {
      this.connections += 1
      this.attach(socket, decoder)
    })
    cleanups.add(() => {
      this.socket?.destroy()
      this.#server.close()
    })
  }

  /** The blob of the package, once it has arrived. */
  package: Uint8Array | undefined

  /** Sends SHUT. */
  shut(status: number): void {
    this.#hasShut = true
    this.send((out) => {
      stream.encodeShut(out, status)
    })
  }

  request(block: string | undefined, start: number, lengthBytes = 4096): void {
    this.send((out) => {
      stream.encodePageRequest(out, block, start, lengthBytes)
    })
  }
}

export function portOf(uri: string): number {
  return Number(uri.slice(uri.lastIndexOf(':') + 1))
}

export interface PrologueOptions {
  machineType?: string
  postcopy?: boolean
  returnPath?: boolean
  summary?: number
  targetPageSize?: number
  blocks?: readonly stream.RamBlockInfo[]
}

/** From the file header to the block list of `machine`. */
export function prologue(machine: TestMachine, options: PrologueOptions = {}): Uint8Array {
  const { postcopy = true, returnPath = postcopy } = options
  const own = machine.blocks.map(({ name, lengthBytes, region }) => ({
    name,
    usedLengthBytes: lengthBytes,
    ...(region.pageSizeBytes > 4096 ? { pageSizeBytes: region.pageSizeBytes } : {}),
  }))
  const sizes = new Set(machine.blocks.map(({ region }) => region.pageSizeBytes))
  const summary = [...sizes].reduce((sum, size) => sum + size, 0)
  return stream.encode((out) => {
    stream.encodeFileHeader(out)
    stream.encodeConfiguration(out, options.machineType ?? machine.machineType)
    if (returnPath) {
      stream.encodeOpenReturnPath(out)
      stream.encodePing(out, 1)
    }
    if (postcopy) {
      stream.encodeAdvise(out, options.summary ?? summary, options.targetPageSize ?? 4096)
    }
    const header = { id: RAM_ID, idstr: 'ram', instanceId: 0, version: 4 }
    stream.encodeSectionStart(out, header)
    stream.encodeRamBlockList(out, options.blocks ?? own)
    endSection(out)
  })
}

function endSection(out: stream.Writer): void {
  stream.encodeRamEndOfSection(out)
  stream.encodeFooter(out, RAM_ID)
}

/** One PART of these records. */
export function part(build: (out: stream.Writer) => void): Uint8Array {
  return stream.encode((out) => {
    stream.encodeSectionPart(out, RAM_ID)
    build(out)
    endSection(out)
  })
}

/** The END of `ram`, with these records. */
export function ramEnd(build: (out: stream.Writer) => void = () => undefined): Uint8Array {
  return stream.encode((out) => {
    stream.encodeSectionEnd(out, RAM_ID)
    build(out)
    endSection(out)
  })
}

/** A discard of all pages. */
export function discardAll(machine: TestMachine): Uint8Array {
  return stream.encode((out) => {
    for (const { name, lengthBytes } of machine.blocks) {
      stream.encodeRamDiscard(out, name, [0, lengthBytes])
    }
  })
}

/** FULL sections of the machine's devices. */
export function deviceSections(machine: TestMachine): Uint8Array<ArrayBuffer> {
  const writer = new stream.DeviceSectionWriter(RAM_ID + 1)
  for (const { data, ...header } of machine.saveDevices()) {
    writer.add(header, (out) => out.bytes(data))
  }
  return writer.take()
}

/** The package as a source of ours sends it. */
export function packageOf(machine: TestMachine): Uint8Array {
  return stream.encode((out) => {
    stream.encodePackaged(out, stream.encodePackage(deviceSections(machine)))
  })
}

/** All pages of the machine, or the wanted ones, as records with a name. */
export function allPages(
  machine: TestMachine,
  isWanted: (name: string, offset: number) => boolean = () => true,
): (out: stream.Writer) => void {
  return (out) => {
    for (const { name, lengthBytes } of machine.blocks) {
      const content = machine.content(name)
      for (let offset = 0; offset < lengthBytes; offset += 4096) {
        if (!isWanted(name, offset)) continue
        const page = content.subarray(offset, offset + 4096)
        if (page.every((byte) => byte === 0)) stream.encodeRamZero(out, name, offset)
        else stream.encodeRamPage(out, name, offset, page)
      }
    }
  }
}
