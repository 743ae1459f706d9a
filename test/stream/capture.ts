/**
 * Makes the golden files again: `node dist/test/stream/capture.js DIRECTORY`. Needs QEMU 7.2, and
 * root to capture a destination. Not part of the tests, which read the committed files.
 */
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import * as stream from '../../src/stream/index.js'
import { Qemu } from './qemu.js'
import { Replay } from './replay.js'
import { SavedStream } from './saved-stream.js'

const target = process.argv[2] ?? 'test/stream/golden'
const directory = mkdtempSync(`${tmpdir()}/capture-`)
const machines: Qemu[] = []

async function start(name: string, args: readonly string[]): Promise<Qemu> {
  const machine = await Qemu.start(directory, name, args)
  machines.push(machine)
  return machine
}

function keep(name: string, bytes: Uint8Array): void {
  writeFileSync(`${target}/${name}.gz`, gzipSync(bytes, { level: 9 }))
  console.log(`${name}: ${bytes.length} bytes`)
}

async function capturePrecopy(): Promise<Uint8Array> {
  const qemu = await start('precopy', [])
  await sleep(1000)
  await qemu.execute('migrate', { uri: `exec:cat > ${directory}/precopy` })
  await qemu.reached('completed')
  await qemu.stop()
  const bytes = readFileSync(`${directory}/precopy`)
  keep('precopy', bytes)
  return bytes
}

/** A source in postcopy, paused half way, recovered, completed. */
async function capturePostcopySource(): Promise<void> {
  const qemu = await start('source', [])
  await sleep(1000)
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const uri = `tcp:127.0.0.1:${portOf(server)}`
  await qemu.enable('postcopy-ram')
  const limits = { 'max-bandwidth': 50_000, 'max-postcopy-bandwidth': 50_000 }
  await qemu.execute('migrate-set-parameters', limits)

  const first = accept(server, {})
  await qemu.execute('migrate', { uri })
  await qemu.execute('migrate-start-postcopy')
  const connection = await first
  await qemu.reached('postcopy-active')
  await connection.packaged
  connection.say((out) => {
    stream.encodePageRequest(out, 'pc.ram', 0x12000, 4096)
    stream.encodePageRequest(out, undefined, 0x15000, 4096)
  })
  await sleep(300)
  await qemu.execute('migrate-pause')
  await qemu.reached('postcopy-paused')
  keep('postcopy-source', connection.bytes())

  const { id, blocks } = connection.learned
  const second = accept(server, { resume: { ramSectionId: id, blocks } })
  await qemu.execute('migrate-set-parameters', { 'max-postcopy-bandwidth': 0 })
  await qemu.execute('migrate', { uri, resume: true })
  await qemu.reached('completed')
  keep('recovered-source', (await second).bytes())
  server.close()
  await qemu.stop()
}

/** A source with `postcopy-preempt`: requested pages are sent on a second connection. */
async function capturePreemptSource(): Promise<void> {
  const qemu = await start('preempt', [])
  await sleep(1000)
  const server = createServer().listen(0, '127.0.0.1')
  const sockets: Socket[] = []
  server.on('connection', (socket) => sockets.push(socket))
  await once(server, 'listening')
  await qemu.enable('postcopy-ram', 'postcopy-preempt')
  const limits = { 'max-bandwidth': 50_000, 'max-postcopy-bandwidth': 200_000 }
  await qemu.execute('migrate-set-parameters', limits)
  await qemu.execute('migrate', { uri: `tcp:127.0.0.1:${portOf(server)}` })
  while (sockets.length < 2) await sleep(10)
  const [first, second] = sockets
  if (first === undefined || second === undefined) throw new Error('two connections expected')
  const chunks: Uint8Array[] = []
  second.on('data', (data) => chunks.push(data))
  const main = answer(first, {})
  await qemu.execute('migrate-start-postcopy')
  await main.packaged
  main.say((out) => {
    stream.encodePageRequest(out, 'pc.ram', 0x12000, 4096)
    stream.encodePageRequest(out, undefined, 0xf00000, 4096)
    stream.encodePageRequest(out, 'pc.bios', 0xf000, 4096)
  })
  await qemu.reached('completed')
  await sleep(100)
  keep('preempt-channel', Buffer.concat(chunks))
  keep('preempt-main', main.bytes())
  server.close()
  await qemu.stop()
}

interface Accepted {
  bytes(): Uint8Array
  say(build: (out: stream.Writer) => void): void
  packaged: Promise<void>
  learned: { id: number; blocks: readonly stream.RamBlockInfo[] }
}

/** Accepts the next connection, as a destination that sends the required answers. */
async function accept(server: Server, options: stream.StreamDecoderOptions): Promise<Accepted> {
  const [socket] = (await once(server, 'connection')) as [Socket]
  return answer(socket, options)
}

function answer(socket: Socket, options: stream.StreamDecoderOptions): Accepted {
  const chunks: Uint8Array[] = []
  const learned = { id: 0, blocks: [] as readonly stream.RamBlockInfo[] }
  const say = (build: (out: stream.Writer) => void) => socket.write(stream.encode(build))
  let tellPackaged: () => void = () => undefined
  const packaged = new Promise<void>((resolve) => {
    tellPackaged = resolve
  })
  const known = new Map(options.resume?.blocks.map((block) => [block.name, block]))
  const decoder = new stream.StreamDecoder(
    {
      sectionStart: ({ id }) => (learned.id = id),
      ramBlocks: (blocks) => (learned.blocks = blocks),
      ping: (value) =>
        say((out) => {
          stream.encodePong(out, value)
        }),
      packaged(blob) {
        for (const value of stream.findPackagePings(blob).pings) {
          say((out) => {
            stream.encodePong(out, value)
          })
        }
        tellPackaged()
      },
      recvBitmap(name) {
        // Reports the upper half as received.
        const pages = (known.get(name)?.usedLengthBytes ?? 0) / 4096
        const bitmap = new Uint8Array(Math.ceil(pages / 8)).fill(0xff, Math.ceil(pages / 16))
        say((out) => {
          stream.encodeRecvBitmap(out, name, bitmap)
        })
      },
      resume: () =>
        say((out) => {
          stream.encodeResumeAck(out)
        }),
      endOfStream: () =>
        say((out) => {
          stream.encodeShut(out, 0)
        }),
    },
    options,
  )
  const feeder = new stream.StreamFeeder(decoder)
  socket.on('error', () => undefined)
  socket.on('data', (data) => {
    chunks.push(data)
    feeder.push(data)
  })
  return { bytes: () => Buffer.concat(chunks), say, packaged, learned }
}

/**
 * A destination that receives the saved stream as postcopy, pauses half way, recovers, completes.
 */
async function captureDestination(bytes: Uint8Array): Promise<void> {
  const saved = new SavedStream(bytes)
  const qemu = await start('destination', ['-incoming', 'defer'])
  await qemu.enable('postcopy-ram')
  const port = await freePort()
  await qemu.execute('migrate-incoming', { uri: `tcp:127.0.0.1:${port}` })
  const sent = new Set<string>()
  const first = await Replay.connect(port, saved, sent)
  first.socket.write(saved.prologue())
  await qemu.reached('postcopy-active')
  // The halted guest touches nothing, so the monitor does, and waits like a vCPU.
  for (const address of ['0x12000', '0x15000', '0xfffff000', '0x12000', '0x16000']) {
    await qemu.execute('human-monitor-command', { 'command-line': `xp /1xw ${address}` })
  }
  first.sendUnsent(0.5)
  await sleep(300)
  await qemu.execute('migrate-pause')
  await qemu.reached('postcopy-paused')
  keep('destination-return-path', first.bytes())
  first.socket.destroy()

  const port2 = await freePort()
  await qemu.execute('migrate-recover', { uri: `tcp:127.0.0.1:${port2}` })
  const second = await Replay.connect(port2, saved, sent)
  second.socket.write(
    stream.encode((out) => {
      for (const { name } of saved.blocks) stream.encodeRecvBitmapRequest(out, name)
    }),
  )
  await second.bitmaps(saved.blocks.length)
  second.socket.write(
    stream.encode((out) => {
      stream.encodeResume(out)
    }),
  )
  await second.resumed
  second.sendUnsent(1)
  second.socket.write(saved.epilogue())
  await second.shut
  keep('recovered-return-path', second.bytes())
  await qemu.stop()
}

function portOf(server: Server): number {
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const port = portOf(server)
  server.close()
  await once(server, 'close')
  return port
}

try {
  const saved = await capturePrecopy()
  await capturePostcopySource()
  await capturePreemptSource()
  await captureDestination(saved)
} finally {
  for (const machine of machines) await machine.stop()
  rmSync(directory, { recursive: true })
}
