/**
 * A stream that ends too early, at every byte. Runs the state machine of the destination on real
 * sockets, but without its worker, so that many runs fit into a second.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { attachBlocks } from '../../src/destination/block.js'
import { FaultLog, createFaultLog } from '../../src/destination/fault-log.js'
import { Receiver } from '../../src/destination/receiver.js'
import type { Userfaultfd } from '../../src/kernel/index.js'
import { Channel } from '../../src/net/channel.js'
import { createCounters } from '../../src/migration/counters.js'
import { resolveOptions } from '../../src/migration/options.js'
import { isAtRest } from '../../src/migration/states.js'
import { PageBitmap } from '../../src/ram/page-bitmap.js'
import * as stream from '../../src/stream/index.js'
import {
  deviceSections,
  discardAll,
  packageOf,
  part,
  prologue,
  ramEnd,
} from '../support/fake-peer.js'
import { TestMachine } from '../support/test-machine.js'

const blocks = { ram: 8192, vram: 4096 }

function zeroPages(out: stream.Writer): void {
  stream.encodeRamZero(out, 'ram', 0)
  stream.encodeRamZero(out, undefined, 4096)
  stream.encodeRamZero(out, 'vram', 0)
}

function precopyStream(machine: TestMachine): Uint8Array {
  return stream.encode((out) => {
    out.bytes(prologue(machine, { postcopy: false, returnPath: true }))
    out.bytes(part(zeroPages)).bytes(ramEnd()).bytes(deviceSections(machine))
    stream.encodeEndOfStream(out)
    stream.encodeVmDescription(out, '{}')
  })
}

/** A postcopy stream, and its length up to the end of the package. */
function postcopyStream(machine: TestMachine): { bytes: Uint8Array; handover: number } {
  const before = stream.encode((out) => {
    out.bytes(prologue(machine)).bytes(discardAll(machine))
    stream.encodePing(out, 2)
    out.bytes(packageOf(machine))
  })
  const bytes = stream.encode((out) => {
    out.bytes(before)
    stream.encodePing(out, 4)
    out.bytes(part(zeroPages)).bytes(ramEnd())
    stream.encodeEndOfStream(out)
  })
  return { bytes, handover: before.length }
}

interface Outcome {
  readonly state: string
  /** The status of the last SHUT that the source received. */
  readonly shut: number | undefined
}

/** Sends `bytes` to a new destination, and then closes or resets the connection. */
async function receive(
  machine: TestMachine,
  bytes: Uint8Array,
  postcopy: boolean,
  hardly: boolean,
): Promise<Outcome> {
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert(typeof address === 'object' && address !== null)
  const socket = net.connect({ port: address.port, host: '127.0.0.1', allowHalfOpen: true })
  const [accepted] = (await once(server, 'connection')) as [net.Socket]
  server.close()

  let claimed = false
  let uffd: Userfaultfd | undefined
  let ended: (state: string) => void = () => undefined
  const end = new Promise<string>((resolve) => {
    ended = resolve
  })
  const run = (): void => {
    claimed = true
    // As the main thread would, a little later.
    setImmediate(() => receiver.guestRunning())
  }
  const receiver = new Receiver(
    {
      stateChanged: (state) => {
        if (isAtRest(state)) ended(state)
      },
      holdUserfaultfd: (opened) => {
        uffd = opened
      },
      announced: () => undefined,
      checkConfiguration: () => undefined,
      loadPackage: run,
      loadDevices: run,
      giveBack: () => !claimed,
      whole: () => undefined,
    },
    attachBlocks(
      machine.blocks.map(({ name, region, lengthBytes }) => {
        const bitmap = (): Uint8Array => new PageBitmap(lengthBytes / 4096).bytes
        return {
          name,
          regionId: region.id,
          lengthBytes,
          received: bitmap(),
          zeroed: bitmap(),
          requested: bitmap(),
          precopied: bitmap(),
        }
      }),
    ),
    {
      machineType: machine.machineType,
      userModeOnly: undefined,
      ownerThreadId: undefined,
      resumption: undefined,
      ...resolveOptions({ capabilities: { 'postcopy-ram': postcopy } }),
    },
    createCounters(),
    new FaultLog(createFaultLog()),
  )
  receiver.listening()
  receiver.accept(Channel.accept(accepted, 'the source'))

  let shut: number | undefined
  const feeder = new stream.StreamFeeder(
    new stream.ReturnPathDecoder({ shut: (value) => (shut = value) }, []),
  )
  socket.on('data', (chunk) => feeder.push(chunk))
  socket.on('error', () => undefined)
  const heardAll = once(socket, 'close')
  socket.write(bytes, () => {
    if (hardly) socket.resetAndDestroy()
    else socket.end()
  })
  const state = await end
  if (!hardly && state !== 'postcopy-paused') socket.once('end', () => socket.destroy())
  else socket.destroy()
  await heardAll
  uffd?.close()
  return { state, shut }
}

async function atEveryByte(length: number, check: (cut: number) => Promise<void>): Promise<void> {
  for (let cut = 1; cut <= length; cut += 1) await check(cut)
}

describe('a stream that ends too early', () => {
  let machine: TestMachine

  beforeEach(() => {
    machine = new TestMachine({ blocks })
  })

  for (const hardly of [false, true]) {
    const how = hardly ? 'reset' : 'closed'

    it(`fails a precopy at every byte, ${how}, and a complete stream completes it`, async () => {
      const bytes = precopyStream(machine)
      await atEveryByte(bytes.length - 1, async (cut) => {
        const { state } = await receive(machine, bytes.subarray(0, cut), false, hardly)
        assert.equal(state, 'failed', `after ${cut} of ${bytes.length} bytes`)
      })
      const whole = await receive(machine, bytes, false, false)
      assert.deepEqual(whole, { state: 'completed', shut: 0 })
    })

    it(`fails a postcopy at every byte up to the package, ${how}, and pauses it after that`, async () => {
      const { bytes, handover } = postcopyStream(machine)
      await atEveryByte(bytes.length - 1, async (cut) => {
        const { state, shut } = await receive(machine, bytes.subarray(0, cut), true, hardly)
        const expected = cut < handover ? 'failed' : 'postcopy-paused'
        assert.equal(state, expected, `after ${cut} of ${bytes.length} bytes`)
        assert(shut === undefined || (shut === 1 && cut < handover), 'no SHUT after the package')
      })
      const whole = await receive(machine, bytes, true, false)
      assert.deepEqual(whole, { state: 'completed', shut: 0 })
    })
  }
})
