/** A push over a connection whose other end is the test, on a clock that only the test moves. */
import { createCounters } from '../../src/migration/counters.js'
import { type Parameters, resolveOptions } from '../../src/migration/options.js'
import type { TrackedBlock } from '../../src/ram/dirty-log.js'
import { SourceLink } from '../../src/source/link.js'
import { PING_BYTES, Push } from '../../src/source/push.js'
import { BUFFER_PAGES, RamSender } from '../../src/source/ram-sender.js'
import type { Replay } from '../../src/source/replay.js'
import { Clock, ClockSignal } from '../support/clock.js'
import { RecordingChannel } from '../support/recording-channel.js'
import { SourceStream } from './support.js'

export class Rig {
  readonly clock = new Clock()
  readonly counters = createCounters()
  readonly channel = new RecordingChannel()
  readonly ram: RamSender
  readonly push: Push
  readonly link: SourceLink
  readonly signal: ClockSignal
  /** Called when the push waits. */
  onWait: (timeoutMs: number) => void = () => undefined
  failure: Error | undefined
  /** The destination loads the devices. */
  isLoading = false
  readonly #stream: SourceStream
  #heard = 0
  #answered = 0

  constructor(
    blocks: readonly TrackedBlock[],
    parameters: Partial<Parameters> = {},
    replay?: Replay,
  ) {
    const resolved = resolveOptions({ parameters }).parameters
    this.ram = new RamSender(blocks, this.counters)
    this.ram.recount()
    this.ram.beginPostcopy()
    this.signal = new ClockSignal(this.clock, (timeoutMs) => this.onWait(timeoutMs))
    this.push = new Push({
      ram: this.ram,
      counters: this.counters,
      signal: this.signal,
      parameters: () => resolved,
      isLoading: () => this.isLoading,
      check: () => {
        if (this.failure !== undefined) throw this.failure
      },
      replay,
    })
    this.#stream = new SourceStream(blocks)
    this.link = this.connect(this.channel)
  }

  connect(channel: RecordingChannel): SourceLink {
    const batchBytes = this.ram.batchBytes(BUFFER_PAGES) + PING_BYTES
    const { counters, signal } = this
    return new SourceLink(channel.asChannel, batchBytes, counters, signal, () => 0, true)
  }

  /** What the destination has received on the main channel. */
  get stream(): SourceStream {
    for (const bytes of this.channel.written.slice(this.#heard)) this.#stream.push(bytes)
    this.#heard = this.channel.written.length
    return this.#stream
  }

  /** Answers all pings that were sent. */
  pong(): void {
    const { pings } = this.stream
    for (const value of pings.slice(this.#answered)) this.push.pong(value)
    this.#answered = pings.length
    this.signal.notify()
  }

  /** Requests single pages of the block and serves them at once. @returns what was sent for each */
  request(block: TrackedBlock, ...pages: readonly number[]): string[][] {
    return pages.map((page) => {
      const before = this.stream.pages.length
      this.push.request(block, page, page + block.block.hostPages)
      this.push.serve()
      return this.stream.pages.slice(before)
    })
  }

  run(urgentLink?: SourceLink): Promise<void> {
    return this.push.run(this.link, urgentLink)
  }
}

/** Runs `during` once, while the push waits for the devices to be loaded. */
export async function whileLoading(
  rig: Rig,
  during: () => void,
  urgentLink?: SourceLink,
): Promise<void> {
  rig.isLoading = true
  rig.onWait = () => {
    if (rig.isLoading) during()
    rig.isLoading = false
  }
  await rig.run(urgentLink)
}
