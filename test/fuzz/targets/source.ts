/** A destination's messages in any order, to a source that has pages to send. */
import { StreamError, PeerError } from '../../../src/errors.js'
import { MemoryRegion } from '../../../src/kernel/index.js'
import { createCounters } from '../../../src/migration/counters.js'
import { resolveOptions } from '../../../src/migration/options.js'
import { PageBitmap } from '../../../src/ram/page-bitmap.js'
import { RamBlock } from '../../../src/ram/ram-block.js'
import type { SentBlock } from '../../../src/source/block.js'
import { PhaseMachine } from '../../../src/migration/index.js'
import { sourcePhases } from '../../../src/source/phases.js'
import { Session } from '../../../src/source/session.js'
import * as stream from '../../../src/stream/index.js'
import { bounded } from '../bounded.js'
import { type Step, programOf, stepAt, stepsOf } from '../program.js'
import { type Target, demand } from '../target.js'

const PAGE = 4096
const PAGES = 32
const NAMES = ['ram', 'vram'] as const

const regions = NAMES.map(() => {
  const region = MemoryRegion.create({ kind: 'anon', lengthBytes: PAGES * PAGE })
  for (let page = 1; page < PAGES; page += 2) {
    region.write(page * PAGE, new Uint8Array(PAGE).fill(page))
  }
  return region
})

/** The action of a step, by its first byte. */
export const Say = {
  request: 0,
  requestNext: 1,
  requestAll: 2,
  pong: 3,
  shut: 4,
  bitmap: 5,
  resumeAck: 6,
  switchoverAck: 7,
  raw: 8,
  /** Not a message: the source sends requested pages, or the next ones of the sweep. */
  sendRequested: 9,
  sendPart: 10,
  repeat: 11,
} as const

class Run {
  readonly session: Session
  /** How often each page was sent. */
  readonly sent = new Map<string, number>()
  readonly #blocks: SentBlock[]
  readonly #decoder: stream.StreamDecoder
  readonly #feeder: stream.StreamFeeder
  readonly #batch: Uint8Array
  #heard = new Uint8Array()

  constructor({ what }: Step) {
    const descriptors = NAMES.map((name, index) => ({
      name,
      regionId: regions[index]?.id ?? -1,
      lengthBytes: PAGES * PAGE,
      ...(index === 0 && (what & 1) !== 0 ? { pageSizeBytes: 2 * PAGE } : {}),
    }))
    this.#blocks = RamBlock.attachAll(descriptors).map((block) => {
      const dirty = new PageBitmap(PAGES)
      dirty.setAll()
      return { block, dirty, data: dirty.copy(), leftOut: new PageBitmap(PAGES) }
    })
    const { capabilities, parameters } = resolveOptions({ capabilities: { 'postcopy-ram': true } })
    const isRecovery = (what & 2) !== 0
    const recovering = (what & 4) !== 0 ? 'recover-bitmaps' : 'recover-resume'
    this.session = new Session(
      this.#blocks,
      new PhaseMachine(sourcePhases, isRecovery ? recovering : 'package-sent', () => undefined),
      {
        uri: { type: 'unix', path: '/nowhere' },
        tls: undefined,
        ramSectionId: 2,
        capabilities,
        parameters: () => parameters,
        signal: new AbortController().signal,
      },
      createCounters(),
      { keepBitmap: () => undefined, claim: () => undefined },
    )
    this.session.ram.recount()
    this.session.ram.beginPostcopy()
    this.#batch = new Uint8Array(this.session.ram.batchBytes(8))
    const blocks = this.#blocks.map(({ block }) => ({
      name: block.name,
      usedLengthBytes: block.lengthBytes,
    }))
    const count = (name: string, offset: number): void => {
      const page = `${name}:${offset / PAGE}`
      this.sent.set(page, (this.sent.get(page) ?? 0) + 1)
    }
    this.#decoder = new stream.StreamDecoder(
      { ramPage: count, ramZero: count },
      { resume: { ramSectionId: 2, blocks } },
    )
    this.#feeder = new stream.StreamFeeder(this.#decoder)
  }

  hear(build: (out: stream.Writer) => void, times = 1): void {
    const word = stream.encode(build)
    const bytes = new Uint8Array(this.#heard.length + times * word.length)
    bytes.set(this.#heard)
    for (let i = 0; i < times; i += 1) bytes.set(word, this.#heard.length + i * word.length)
    const taken = this.session.returnPath.consume(bytes, 0, bytes.length)
    this.#heard = bytes.slice(taken)
    const { requestsWaiting, aheadWaiting } = this.session.ram
    const most = NAMES.length * PAGES
    demand(requestsWaiting <= most && aheadWaiting <= most, 'more pages are queued than exist')
  }

  send(pack: (out: Uint8Array) => number): void {
    const lengthBytes = pack(this.#batch)
    demand(lengthBytes <= this.#batch.length, `${lengthBytes} bytes in a smaller batch`)
    this.#feeder.push(this.#batch.slice(0, lengthBytes))
  }

  /** Sends all remaining pages; after that each page must have been sent once. */
  finish(): void {
    while (this.session.ram.remainingPages > 0) {
      this.send((out) => this.session.ram.packRequested(out))
      this.send((out) => this.session.ram.packAhead(out, 3))
      this.send((out) => this.session.ram.packPart(out, 8))
    }
    demand(this.#feeder.leftoverBytes === 0, 'the source stopped inside an element')
    demand(this.sent.size === NAMES.length * PAGES, `${this.sent.size} pages were sent`)
    for (const [page, times] of this.sent) demand(times === 1, `${page} was sent ${times} times`)
  }

  close(): void {
    for (const { block } of this.#blocks) block.close()
  }
}

const nameOf = (index: number): string => NAMES[index & 1] ?? NAMES[0]

const words: Readonly<Record<number, (run: Run, step: Step) => void>> = {
  [Say.request]: (run, { a, b, c }) =>
    run.hear((out) => stream.encodePageRequest(out, nameOf(a), b * PAGE, (c % 4) * PAGE)),
  [Say.requestNext]: (run, { a, b }) =>
    run.hear((out) => stream.encodePageRequest(out, undefined, a * PAGE, b * PAGE)),
  [Say.requestAll]: (run, { a, b }) =>
    run.hear((out) => stream.encodePageRequest(out, nameOf(a), 0, PAGES * PAGE), 1 + b),
  [Say.pong]: (run, { a, b }) =>
    run.hear((out) => stream.encodePong(out, a === 0 ? stream.PingValue.packageLoaded : b)),
  [Say.shut]: (run, { a }) => run.hear((out) => stream.encodeShut(out, a)),
  [Say.bitmap]: (run, { a, b, c }) =>
    run.hear((out) => stream.encodeRecvBitmap(out, nameOf(a), new Uint8Array(b % 16).fill(c))),
  [Say.resumeAck]: (run) => run.hear(stream.encodeResumeAck),
  [Say.switchoverAck]: (run) => run.hear(stream.encodeSwitchoverAck),
  [Say.raw]: (run, { a, b, c }) => run.hear((out) => out.u8(a).u8(b).u8(c)),
  [Say.sendRequested]: (run) => run.send((out) => run.session.ram.packRequested(out)),
  [Say.sendPart]: (run, { a }) => run.send((out) => run.session.ram.packPart(out, 1 + (a % 8))),
  [Say.repeat]: (run, { a, b }) =>
    run.hear((out) => stream.encodePageRequest(out, nameOf(a), (b % PAGES) * PAGE, PAGE), 200),
}

export const WORD_COUNT = Object.keys(words).length

/** @returns how the destination's messages ended */
export function runSource(input: Uint8Array): string {
  const run = new Run(stepAt(input, 0))
  try {
    return bounded(input.length * 1000, () => {
      let answer = 'all sent'
      try {
        for (const step of stepsOf(input)) {
          words[step.what % WORD_COUNT]?.(run, step)
          run.session.check()
        }
      } catch (error) {
        if (!(error instanceof StreamError) && !(error instanceof PeerError)) throw error
        answer = error.code
      }
      run.finish()
      return answer
    })
  } finally {
    run.close()
  }
}

export const source: Target = {
  seeds: [
    programOf([
      [0],
      [Say.pong, 0],
      [Say.request, 0, 3, 1],
      [Say.sendRequested],
      [Say.requestNext, 5, 1],
      [Say.requestAll, 1, 3],
      [Say.sendPart, 7],
      [Say.sendRequested],
    ]),
    programOf([
      [1],
      [Say.request, 0, 2, 2],
      [Say.repeat, 1, 9],
      [Say.sendRequested],
      [Say.shut, 1],
    ]),
    programOf([
      [2],
      [Say.bitmap, 0, 4, 15],
      [Say.bitmap, 1, 4, 0],
      [Say.resumeAck],
      [Say.requestAll],
    ]),
  ],
  maxBytes: 200,
  run: runSource,
}
