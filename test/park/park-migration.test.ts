/** Parks a machine of ours in a directory, and resumes it from there. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import net from 'node:net'
import { once } from 'node:events'
import { Destination } from '../../src/destination/destination.js'
import { Guest } from '../../src/guest/index.js'
import { Park, ParkedVm, resume } from '../../src/park/index.js'
import { Source, type SourceOptions } from '../../src/source/index.js'
import * as stream from '../../src/stream/index.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import { TestMachine, type TestMachineOptions } from '../support/test-machine.js'
import { settled } from './support.js'

const MIB = 2 ** 20

async function listen(): Promise<{ park: Park; directory: string }> {
  const folder = await temporaryFolder()
  const directory = join(folder, 'vm')
  const park = await Park.listen({ uri: `unix:${join(folder, 'socket')}`, directory })
  cleanups.add(() => park.close())
  return { park, directory }
}

function send(machine: TestMachine | Guest, park: Park, options: Partial<SourceOptions>): Source {
  const source = Source.migrate(machine, { uri: park.uri ?? '', ...options })
  cleanups.add(() => source.close())
  return source
}

function open(directory: string): ParkedVm {
  const vm = ParkedVm.open(directory, { verify: true })
  cleanups.add(() => vm.close())
  return vm
}

const ways: readonly (readonly [string, Partial<SourceOptions>])[] = [
  ['precopy', {}],
  ['precopy with a return path', { capabilities: { 'return-path': true } }],
  ['postcopy at once', { capabilities: { 'postcopy-ram': true }, postcopyAtOnce: true }],
  [
    'postcopy with preempt',
    { capabilities: { 'postcopy-ram': true, 'postcopy-preempt': true }, postcopyAtOnce: true },
  ],
]

const machines: readonly (readonly [string, TestMachineOptions])[] = [
  ['two blocks', {}],
  [
    'names that are not valid file names',
    { blocks: { '/rom@etc/acpi/tables': MIB, '../x\u00e9': MIB } },
  ],
  ['one page', { blocks: { ram: 4096 } }],
]

describe('parking a postcopy machine', () => {
  for (const [what, machine] of machines) {
    for (const [how, options] of ways) {
      it(`${what}, by ${how}, and resuming it`, async () => {
        const here = new TestMachine(machine)
        here.fill()
        here.devices.set('disk', Uint8Array.of(1, 2, 3))
        here.start()
        const { park, directory } = await listen()
        const source = send(here, park, options)
        await Promise.all([source.done, park.done])
        assert.equal(here.running, false)
        const vm = open(directory)
        for (const [index, { name }] of here.blocks.entries()) {
          const file = vm.manifest.blocks[index]?.file ?? ''
          assert(readFileSync(join(directory, file)).equals(here.content(name)), name)
        }

        const there = new TestMachine(machine)
        const capabilities = { 'postcopy-ram': true }
        const uri = 'tcp:127.0.0.1:0'
        const destination = await Destination.listen(there, { uri, capabilities })
        cleanups.add(() => destination.close())
        const clone = resume(vm, { uri: destination.uri })
        cleanups.add(() => clone.close())
        await Promise.all([clone.done, destination.done])
        assert.equal(there.running, true)
        assert.deepEqual(there.devices.get('disk'), Uint8Array.of(1, 2, 3))
        for (const { name } of here.blocks) assert(there.content(name).equals(here.content(name)))
        assert.equal(clone.counters.precopyBytes, 0)
      })
    }
  }

  it('keeps every page of a guest that writes all the time', async () => {
    const guest = await Guest.create({ ram: 16 * MIB, workload: 'sweep:writes=50' })
    cleanups.add(() => guest.close())
    guest.start()
    const { park, directory } = await listen()
    const source = send(guest, park, {
      capabilities: { 'postcopy-ram': true },
      parameters: { 'max-bandwidth': 16 * MIB, 'x-postcopy-after-rounds': 2, 'downtime-limit': 0 },
    })
    await Promise.all([source.done, park.done])
    assert(source.counters.discardedPages > 0, 'pages were sent twice')

    const there = await Guest.create({ ram: 16 * MIB, incoming: true })
    cleanups.add(() => there.close())
    const destination = await Destination.listen(there, {
      uri: 'tcp:127.0.0.1:0',
      capabilities: { 'postcopy-ram': true },
    })
    cleanups.add(() => destination.close())
    const clone = resume(open(directory), { uri: destination.uri })
    cleanups.add(() => clone.close())
    await Promise.all([clone.done, destination.done])
    await there.stop()
    const { verified, findings } = await there.verify()
    assert(verified, JSON.stringify(findings))
  })
})

/** A source that sends a script. */
class Script {
  readonly socket: net.Socket
  /**
   * Resolves when the park has closed its side; subscribed from the start, so as
   * not to miss the event.
   */
  readonly ended: Promise<unknown>
  answers = Buffer.alloc(0)

  constructor(park: Park) {
    this.socket = net.connect((park.uri ?? '').slice('unix:'.length))
    this.ended = new Promise((resolve) => this.socket.once('end', resolve))
    this.socket.on('error', () => undefined)
    this.socket.on('data', (bytes) => (this.answers = Buffer.concat([this.answers, bytes])))
  }

  say(put: (out: stream.Writer) => void): void {
    this.socket.write(stream.encode(put))
  }

  prologue({ returnPath = true, postcopy = false } = {}): void {
    this.say((out) => {
      stream.encodeFileHeader(out)
      stream.encodeConfiguration(out, 'script')
      if (returnPath) stream.encodeOpenReturnPath(out)
      if (postcopy) stream.encodeAdvise(out, 4096, 4096)
      stream.encodeSectionStart(out, { id: 5, idstr: 'ram', instanceId: 0, version: 4 })
      stream.encodeRamBlockList(out, [{ name: 'ram', usedLengthBytes: 8 * 4096 }])
      this.#endOfSection(out)
    })
  }

  ram(kind: 'part' | 'end', put: (out: stream.Writer) => void): void {
    this.say((out) => {
      if (kind === 'part') stream.encodeSectionPart(out, 5)
      else stream.encodeSectionEnd(out, 5)
      put(out)
      this.#endOfSection(out)
    })
  }

  package(): void {
    this.say((out) => stream.encodePackaged(out, stream.encodePackage(deviceSections())))
  }

  #endOfSection(out: stream.Writer): void {
    stream.encodeRamEndOfSection(out)
    stream.encodeFooter(out, 5)
  }
}

function deviceSections(): Uint8Array {
  const writer = new stream.DeviceSectionWriter(6)
  writer.add({ idstr: 'device', instanceId: 0, version: 1 }, (out) => out.u32(7))
  return writer.take()
}

const page = (value: number): Uint8Array => new Uint8Array(4096).fill(value)
const shut = (status: number): Buffer =>
  Buffer.from(stream.encode((out) => stream.encodeShut(out, status)))

describe('park handles', () => {
  it('pages that become zero, are discarded or sent twice: holes, no stale pages', async () => {
    const { park, directory } = await listen()
    const script = new Script(park)
    script.prologue({ postcopy: true })
    script.ram('part', (out) => {
      for (let index = 0; index < 8; index += 1) {
        stream.encodeRamPage(out, 'ram', index * 4096, page(index + 1))
      }
      stream.encodeRamZero(out, 'ram', 0)
      stream.encodeRamPage(out, 'ram', 4096, page(99))
    })
    script.say((out) => stream.encodeRamDiscard(out, 'ram', [2 * 4096, 3 * 4096]))
    script.package()
    script.ram('end', (out) => {
      stream.encodeRamPage(out, 'ram', 2 * 4096, page(22))
      stream.encodeRamZero(out, 'ram', 3 * 4096)
      stream.encodeRamZero(out, 'ram', 4 * 4096)
    })
    script.say((out) => stream.encodeEndOfStream(out))
    await script.ended
    script.socket.end()
    await park.done
    const expected = Buffer.concat([0, 99, 22, 0, 0, 6, 7, 8].map(page))
    const path = join(directory, 'ram-0')
    assert(readFileSync(path).equals(expected))
    assert.equal(statSync(path).blocks * 512, 5 * 4096)
    const pongs = [3, 0x42].map((value) => stream.encode((out) => stream.encodePong(out, value)))
    assert.deepEqual(script.answers, Buffer.concat([...pongs, shut(0)]))
  })

  it('a failure in precopy: SHUT 1, and nothing is left', async () => {
    const { park, directory } = await listen()
    const script = new Script(park)
    script.prologue()
    script.say((out) => out.u8(0x55))
    await settled(park)
    await script.ended
    assert.deepEqual(script.answers, shut(1))
    assert(!existsSync(`${directory}.partial`))
  })

  const given: readonly (readonly [string, (script: Script) => void, RegExp])[] = [
    [
      'precopy without postcopy-ram: the source has the guest',
      (script) => script.prologue(),
      /\. Nothing is left on disk\. The source has the guest, if its process still runs: if the guest is stopped there \(info status\), cont starts it$/,
    ],
    [
      'precopy with postcopy-ram: the source has the guest unless it has switched',
      (script) => script.prologue({ postcopy: true }),
      /\. Nothing is left on disk\. The source has the guest, if its process still runs, unless it has switched to postcopy \(info migrate\)$/,
    ],
  ]
  for (const [title, begin, expected] of given) {
    for (const how of ['cancelled', 'stopped'] as const) {
      it(`${how} in ${title}`, async () => {
        const { park, directory } = await listen()
        const script = new Script(park)
        begin(script)
        const answered = once(script.socket, 'data')
        script.say((out) => stream.encodePing(out, 1))
        await answered
        if (how === 'cancelled') script.socket.end()
        else park.stop()
        await settled(park)
        assert.equal(park.state, 'failed')
        assert.match(park.error?.message ?? '', expected)
        assert(!existsSync(`${directory}.partial`))
      })
    }
  }

  it('a stop before a source connects: reports nothing about a guest', async () => {
    const { park } = await listen()
    park.stop()
    await settled(park)
    assert.equal(park.error?.message, 'parking was stopped by a command or a signal')
  })

  it('a failure that it cannot report: closes at once', async () => {
    const { park } = await listen()
    const script = new Script(park)
    script.prologue({ returnPath: false })
    const closed = once(script.socket, 'close')
    script.say((out) => out.u8(0x55))
    await settled(park)
    await closed
    assert.equal(script.answers.length, 0)
  })

  it('a failure after the package: sends nothing, so that the source pauses', async () => {
    const { park, directory } = await listen()
    const script = new Script(park)
    script.prologue({ postcopy: true })
    script.say((out) => stream.encodeRamDiscard(out, 'ram', [0, 8 * 4096]))
    script.package()
    const closed = once(script.socket, 'close')
    script.say((out) => out.u8(0x55))
    await settled(park)
    await closed
    assert.equal(park.state, 'postcopy-paused')
    assert(!script.answers.includes(shut(1)) && !script.answers.includes(shut(0)))
    assert(existsSync(`${directory}.incomplete`))
  })

  it('a postcopy that broke off after its last page: a recovery finishes it without a source', async () => {
    const { park, directory } = await listen()
    const script = new Script(park)
    script.prologue({ postcopy: true })
    script.say((out) => stream.encodeRamDiscard(out, 'ram', [0, 8 * 4096]))
    script.package()
    script.ram('part', (out) => {
      for (let index = 0; index < 8; index += 1) {
        stream.encodeRamPage(out, 'ram', index * 4096, page(index))
      }
    })
    script.socket.end()
    await settled(park)
    assert.equal(park.state, 'postcopy-paused')
    assert.match(park.error?.message ?? '', /no page is missing: park --recover finishes it/)
    const options = { uri: 'tcp:127.0.0.1:0', directory: `${directory}.incomplete` }
    const recovered = await Park.recover(options)
    cleanups.add(() => recovered.close())
    await recovered.done
    assert.equal(recovered.manifest?.state, 'complete')
    assert(recovered.counters.startedAt > 0, 'it counts from its own start')
    open(directory)
    assert(!existsSync(options.directory))
  })

  it('a source that does not receive SHUT: the VM stays, with a message', async () => {
    const { park, directory } = await listen()
    const script = new Script(park)
    script.prologue()
    script.ram('end', (out) => {
      for (let index = 0; index < 8; index += 1) stream.encodeRamZero(out, 'ram', index * 4096)
    })
    // Without a description, only the end of the channel ends the devices. The
    // source has closed by then.
    script.say((out) => {
      out.bytes(deviceSections())
      stream.encodeEndOfStream(out)
    })
    script.socket.end()
    await settled(park)
    assert.equal(park.state, 'failed')
    assert.equal(park.error?.code, 'ERR_CONNECTION_UNCONFIRMED')
    assert.match(park.error.message, /resume it only if it does not run there/)
    open(directory)
  })

  it('more RAM than its limit: refused before anything is allocated', async () => {
    const { park } = await listen()
    const script = new Script(park)
    script.say((out) => {
      stream.encodeFileHeader(out)
      stream.encodeConfiguration(out, 'script')
      stream.encodeSectionStart(out, { id: 5, idstr: 'ram', instanceId: 0, version: 4 })
      stream.encodeRamBlockList(out, [{ name: 'ram', usedLengthBytes: 2 ** 50 }])
      stream.encodeRamEndOfSection(out)
    })
    await settled(park)
    assert.equal(park.error?.code, 'ERR_PEER_BLOCK')
    script.socket.destroy()
  })
})
