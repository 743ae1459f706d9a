/**
 * A destination without worker and socket: the real state machine on real memory and a real
 * userfaultfd, checked against a model of what it may do.
 */
import { type DestinationBlock, attachBlocks } from '../../src/destination/block.js'
import { FaultLog, createFaultLog } from '../../src/destination/fault-log.js'
import { Receiver } from '../../src/destination/receiver.js'
import { PostcopyError } from '../../src/errors.js'
import { MemoryRegion, Userfaultfd } from '../../src/kernel/index.js'
import { createCounters } from '../../src/migration/counters.js'
import { resolveOptions } from '../../src/migration/options.js'
import { type MigrationState, isAtRest } from '../../src/migration/states.js'
import { PageBitmap } from '../../src/ram/page-bitmap.js'
import * as stream from '../../src/stream/index.js'
import { FakeChannel } from '../support/fake-channel.js'
import { Finding, demand } from './target.js'

export const MACHINE_TYPE = 'fuzzed'
export const RAM_ID = 2
export const PAGE = 4096
/** Bytes after each RAM block in its region, which must not change. */
const GUARD = new Uint8Array(PAGE).fill(0xa5)

export const BLOCKS = [
  { name: 'ram', pages: 16 },
  { name: 'vram', pages: 4 },
] as const

const infos = BLOCKS.map(({ name, pages }) => ({ name, usedLengthBytes: pages * PAGE }))

/** One region per block, a page longer than the block; created once, emptied for each rig. */
export const regions = BLOCKS.map(({ pages }) => {
  const region = MemoryRegion.create({ kind: 'anon', lengthBytes: (pages + 1) * PAGE })
  region.write(pages * PAGE, GUARD)
  return region
})

const faultLog = new FaultLog(createFaultLog())

export interface Setting {
  readonly postcopy: boolean
  readonly preempt: boolean
  /** Whether it is a recovery: the guest runs, and some pages have arrived. */
  readonly isResumed: boolean
  /** Target pages per host page of `ram`. */
  readonly hostPages: 1 | 2
}

export class DestinationRig {
  readonly receiver: Receiver
  readonly main = new FakeChannel()
  readonly preempt = new FakeChannel()
  /** Other connections. */
  readonly #strangers: FakeChannel[] = []
  readonly states: MigrationState[] = []
  /** Every fill byte that was sent, by block and page. */
  readonly sent: ReadonlyMap<string, Set<number>[]>
  /** Bytes of the stream were changed, so pages may have any content. */
  isTampered = false
  /** The location of the guest, on which the main thread and the worker agree. */
  claim: 'none' | 'loading' | 'running' | 'lost' | 'whole' = 'none'
  error: unknown
  readonly #setting: Setting
  readonly #blocks: readonly DestinationBlock[]
  readonly #counters = createCounters()
  /** While one is open, reading missing memory parks this thread. */
  readonly #uffds: Userfaultfd[] = []
  #hasShut: number | undefined
  /** Found in a callback: if thrown there, its caller would handle it as an error of its own. */
  #finding: Finding | undefined
  #said = 0

  constructor(setting: Setting) {
    this.#setting = setting
    this.#blocks = attachBlocks(this.#shared())
    for (const { block } of this.#blocks) block.region.discard(0, block.lengthBytes)
    this.sent = new Map(
      BLOCKS.map(({ name, pages }) => [name, Array.from({ length: pages }, () => new Set([0]))]),
    )
    if (setting.isResumed) this.#arm()
    const { capabilities, parameters } = resolveOptions({
      capabilities: { 'postcopy-ram': setting.postcopy, 'postcopy-preempt': setting.preempt },
      parameters: { 'x-max-package-bytes': 65_536 },
    })
    this.receiver = new Receiver(
      {
        stateChanged: (state, error) => this.#stateChanged(state, error),
        holdUserfaultfd: (uffd) => void this.#uffds.push(uffd),
        announced: () => undefined,
        checkConfiguration: () => undefined,
        loadPackage: () => this.#load(),
        loadDevices: () => this.#load(),
        giveBack: () => {
          const owner = this.claim
          if (owner === 'loading') this.claim = 'lost'
          return owner !== 'running' && owner !== 'whole'
        },
        whole: () => {
          this.#noteComplete('whole')
          this.claim = 'whole'
        },
      },
      this.#blocks,
      {
        machineType: MACHINE_TYPE,
        capabilities,
        parameters,
        userModeOnly: undefined,
        ownerThreadId: undefined,
        resumption: setting.isResumed
          ? {
              announced: { ramSectionId: RAM_ID, blocks: infos },
              userfaultfdId: this.#uffds[0]?.id ?? -1,
            }
          : undefined,
      },
      this.#counters,
      faultLog,
    )
    // Completes at once, because no block has huge pages to reserve. A rejection ends the process.
    void this.receiver.begin()
    this.receiver.listening()
    this.receiver.accept(this.main.asChannel)
  }

  get isAtRest(): boolean {
    const state = this.states.at(-1)
    return state !== undefined && isAtRest(state) && this.states.length > 1
  }

  get state(): MigrationState | undefined {
    return this.states.at(-1)
  }

  /** The main thread reports that the guest runs. */
  guestRunning(): void {
    if (this.claim !== 'loading') return
    this.claim = 'running'
    this.receiver.guestRunning()
  }

  loadFailed(error: PostcopyError): void {
    if (this.claim !== 'loading') return
    this.claim = 'none'
    this.receiver.loadFailed(error)
  }

  /** Checks what has been written and done since the last call. */
  check(): void {
    this.main.settle()
    this.preempt.settle()
    if (this.#finding !== undefined) throw this.#finding
    const runs = this.claim === 'running' || this.claim === 'whole'
    demand(!(runs && this.state === 'failed'), 'the guest runs here, and the migration failed')
    this.#listen()
  }

  /** Accepts another connection, which may arrive before the source's second one. */
  acceptStranger(): void {
    const stranger = new FakeChannel()
    this.#strangers.push(stranger)
    this.receiver.accept(stranger.asChannel)
  }

  /** Ends everything that the rig may wait for, and then checks all results. */
  finish(): void {
    this.guestRunning()
    for (const channel of [this.preempt, ...this.#strangers]) {
      channel.end()
      channel.breakOff(undefined)
    }
    this.main.end()
    this.main.breakOff('ECONNRESET')
    if (this.state === 'completed') this.#noteComplete('completed')
    this.check()
    demand(this.isAtRest, `not at rest, but ${this.state ?? 'nothing'}`)
    this.close()
    this.#checkMemory()
  }

  close(): void {
    for (const uffd of this.#uffds) uffd.close()
    for (const { block } of this.#blocks) block.close()
  }

  #shared() {
    return BLOCKS.map(({ name, pages }, index) => {
      const bitmap = (): Uint8Array => new PageBitmap(pages).bytes
      const pageSizeBytes = name === 'ram' ? this.#setting.hostPages * PAGE : PAGE
      return {
        name,
        regionId: regions[index]?.id ?? -1,
        lengthBytes: pages * PAGE,
        pageSizeBytes,
        received: bitmap(),
        zeroed: bitmap(),
        requested: bitmap(),
        precopied: bitmap(),
      }
    })
  }

  /** The state that a dead worker has left: armed, and every fourth page present. */
  #arm(): void {
    const uffd = Userfaultfd.open({ optional: ['THREAD_ID'] })
    this.#uffds.push(uffd)
    for (const { block, received } of this.#blocks) {
      for (let page = 0; page < block.pageCount; page += 4 * block.hostPages) {
        received.setRange(page, page + block.hostPages)
        block.region.write(page * PAGE, new Uint8Array(block.hostPages * PAGE))
      }
      uffd.register(block.region.address, block.lengthBytes, { missing: true })
    }
    this.claim = 'running'
  }

  #load(): void {
    this.#note(this.claim === 'none', `devices are loaded, but the guest is ${this.claim}`)
    this.claim = 'loading'
  }

  #note(holds: boolean, what: string): void {
    if (!holds) this.#finding ??= new Finding(what)
  }

  #stateChanged(state: MigrationState, error: unknown): void {
    this.states.push(state)
    if (error === undefined) return
    this.error = error
    const code = error instanceof PostcopyError ? error.code : 'not an error of this package'
    const isMeant = ![
      'ERR_STATE_TRANSITION',
      'ERR_INTERNAL',
      'not an error of this package',
    ].includes(code)
    const text = error instanceof Error ? error.message : typeof error
    this.#note(isMeant, `an unexpected error (${code}): ${text}`)
  }

  #noteComplete(what: string): void {
    for (const { block, received } of this.#blocks) {
      this.#note(received.count() === block.pageCount, `${what}, but "${block.name}" has gaps`)
    }
  }

  /** The bytes to the source must be a valid return path, and no SHUT may let two guests run. */
  #listen(): void {
    const fresh = this.main.written.slice(this.#said)
    this.#said = this.main.written.length
    const feeder = new stream.StreamFeeder(
      new stream.ReturnPathDecoder(
        {
          shut: (status) => {
            demand(this.#hasShut === undefined, 'a second SHUT')
            this.#hasShut = status
            const runs = this.claim === 'running' || this.claim === 'whole'
            demand(status === 0 ? runs : !runs, `SHUT ${status}, and the guest is ${this.claim}`)
          },
        },
        this.#blocks.map(({ block }) => ({
          name: block.name,
          usedLengthBytes: block.lengthBytes,
          pageSizeBytes: block.hostPageSize,
        })),
      ),
    )
    for (const bytes of fresh) {
      demand(this.#hasShut === undefined, 'a message after SHUT')
      feeder.push(bytes)
    }
    feeder.end()
  }

  #checkMemory(): void {
    const page = new Uint8Array(PAGE)
    for (const [index, { name, pages }] of BLOCKS.entries()) {
      const region = regions[index]
      region?.read(pages * PAGE, page)
      demand(Buffer.compare(page, GUARD) === 0, `bytes after "${name}" were written`)
      for (let at = 0; at < pages && !this.isTampered; at += 1) {
        region?.read(at * PAGE, page)
        const fill = page[0] ?? 0
        const isWhole = Buffer.compare(page, Buffer.alloc(PAGE, fill)) === 0
        const wasSent = this.sent.get(name)?.[at]?.has(fill) === true
        demand(isWhole && wasSent, `page ${at} of "${name}" was never sent with ${fill}`)
      }
    }
  }
}
