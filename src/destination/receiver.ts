/**
 * The destination's state machine: what each element of the stream does, and when it is legal.
 *
 * ```
 * none ── ADVISE ── advise ── DISCARD ── discard ── LISTEN ── listening ── RUN ── running ── EOF
 *   └──────────────────── EOF of a plain precopy ────────────────────────────────────────────┘
 * ```
 *
 * Until the main thread runs the guest, a failure is told to the source, whose guest it stays.
 * From then on the guest is ours: a broken connection pauses, and threads that need a missing
 * page stay parked. A further receiver goes on where this one was (protocol section 7):
 *
 * ```
 * running ── RECV_BITMAP, for each block ── RESUME ── pages ── EOF
 * ```
 */
import type { PostcopyError } from '../errors.js'
import { ConnectionError, StateError } from '../errors.js'
import { Userfaultfd } from '../kernel/index.js'
import { ReturnPathWriter } from './return-path-writer.js'
import type { Channel } from '../net/index.js'
import {
  type Capabilities,
  type Counters,
  type MigrationState,
  now,
  type Parameters,
  pausedOnPurpose,
  StateMachine,
} from '../migration/index.js'
import {
  checkListen,
  encodePong,
  encodeResumeAck,
  encodeShut,
  type RamBlockInfo,
  type RamHandler,
  StreamDecoder,
  type StreamHandler,
} from '../stream/index.js'
import {
  capabilityMismatch,
  checkBlocks,
  checkMachineType,
  checkPageSizes,
  findBlock,
} from './agreement.js'
import type { DestinationBlock } from './block.js'
import type { FaultLog } from './fault-log.js'
import { FaultService } from './fault-service.js'
import { OwnerGuard } from './owner-guard.js'
import { type ChannelName, Placement } from './placement.js'
import { PreemptChannel } from './preempt-channel.js'
import type { Announced, Resumption } from './protocol.js'

/** More than one page that was asked for: faults may have come meanwhile, and more reads may follow. */
const LONG_READ_BYTES = 8 * 1024
/** How long a source may take to close after the last word. */
const LINGER_MS = 2000

type PostcopyState = 'none' | 'advise' | 'discard' | 'listening' | 'running' | 'end'

/** The main thread, as the receiver needs it. */
export interface ReceiverHost {
  stateChanged(state: MigrationState, error: unknown): void
  /** Keep the descriptor open whatever happens to this thread. */
  holdUserfaultfd(uffd: Userfaultfd): void
  /** Keep it for a recovery, whose source does not say it again. */
  announced(announced: Announced): void
  /** Called where the options name no machine type; refused by {@link Receiver.loadFailed}. */
  checkConfiguration(machineType: string, raw: Uint8Array): void
  /** Load the devices and run; answered by {@link Receiver.guestRunning}. */
  loadPackage(blob: Uint8Array<ArrayBuffer>, streamOffset: number): void
  loadDevices(sections: Uint8Array<ArrayBuffer>, streamOffset: number): void
  /** Sees to it that the guest never runs here; false where the main thread has taken it. */
  giveBack(): boolean
  /** The guest that runs here needs nothing from the source any more. */
  whole(): void
}

export interface ReceiverOptions {
  readonly machineType: string | undefined
  readonly capabilities: Capabilities
  readonly parameters: Parameters
  readonly userModeOnly: boolean | undefined
  /** Kernel thread id of the destination's owner, where that is the main thread of the process. */
  readonly ownerThreadId: number | undefined
  /** Goes on with a postcopy that is paused. */
  readonly resumption: Resumption | undefined
}

export class Receiver {
  readonly #host: ReceiverHost
  readonly #blocks: readonly DestinationBlock[]
  readonly #options: ReceiverOptions
  readonly #counters: Counters
  readonly #faultLog: FaultLog
  readonly #placement: Placement
  readonly #state: StateMachine
  readonly #decoder: StreamDecoder
  #channel: Channel | undefined
  #preempt: PreemptChannel | undefined
  #ramSectionId = 0
  #announced: readonly RamBlockInfo[]
  #postcopy: PostcopyState
  readonly #answers: ReturnPathWriter
  #uffd: Userfaultfd | undefined
  #faults: FaultService | undefined
  #guard: OwnerGuard | undefined
  #lastRequested: DestinationBlock | undefined
  #devicesCame = false
  #guestRuns: boolean
  #streamEnded = false

  constructor(
    host: ReceiverHost,
    blocks: readonly DestinationBlock[],
    options: ReceiverOptions,
    counters: Counters,
    faultLog: FaultLog,
  ) {
    this.#host = host
    this.#blocks = blocks
    this.#options = options
    this.#counters = counters
    this.#faultLog = faultLog
    this.#placement = new Placement(blocks, counters)
    const { resumption } = options
    const isResumed = resumption !== undefined
    this.#announced = resumption?.announced.blocks ?? []
    // A source that recovers says neither that it listens nor that the guest is to run: it does.
    this.#answers = new ReturnPathWriter(options.parameters['x-max-unread-bytes'])
    this.#answers.isOpen = isResumed
    this.#guestRuns = isResumed
    this.#postcopy = isResumed ? 'running' : 'none'
    this.#state = new StateMachine(
      (state, error) => host.stateChanged(state, error),
      isResumed ? 'postcopy-paused' : 'none',
    )
    this.#decoder = new StreamDecoder(this.#handler(), {
      limits: { maxPackageBytes: options.parameters['x-max-package-bytes'] },
      pageSizeOf: (name) => blocks.find(({ block }) => block.name === name)?.block.hostPageSize,
      ...(isResumed ? { resume: resumption.announced } : {}),
    })
    if (isResumed) this.#takeOver(Userfaultfd.attach(resumption.userfaultfdId))
  }

  #takeOver(uffd: Userfaultfd): void {
    this.#host.holdUserfaultfd(uffd)
    this.#uffd = uffd
    this.#guardOwner(uffd)
    this.#placement.takeOver(uffd)
    this.#faults = this.#makeFaultService(uffd)
  }

  /** To be called before memory is armed, and before a worker that follows reads faults. */
  #guardOwner(uffd: Userfaultfd): void {
    this.#guard = new OwnerGuard(uffd, this.#options.ownerThreadId, this.#blocks)
    if (this.#guestRuns) this.#guard.guestRunning()
  }

  #disarm(): void {
    this.#faults?.stop()
    this.#placement.disarm()
    this.#guard?.stop()
  }

  /** About to listen. @throws KernelError `ENOMEM` where huge pages are short */
  async begin(): Promise<void> {
    if (this.#isRecovery) this.#state.enter('postcopy-recover-setup')
    else await this.#placement.reserve()
  }

  /** A listener is open. */
  listening(): void {
    if (!this.#isRecovery) this.#state.enter('setup')
  }

  /** Nobody can come any more. */
  listenFailed(error: unknown): void {
    this.#guard?.begin(error)
    this.#state.enter(this.#isRecovery ? 'postcopy-paused' : 'failed', error)
  }

  get #isRecovery(): boolean {
    return this.#options.resumption !== undefined
  }

  /** The source is here; the next connection may be its preempt channel. */
  get isConnected(): boolean {
    return this.#channel !== undefined
  }

  /** Takes the migration from this connection; every other one is turned away. */
  accept(channel: Channel): void {
    channel.detectSilence(this.#options.parameters['x-silence-timeout'])
    if (this.#channel !== undefined) {
      if (this.#mayPreempt && this.#preempt?.hasExpected !== true) {
        this.#offerPreempt((preempt) => preempt.add(channel))
        return
      }
      channel.destroy(new ConnectionError('ERR_CONNECTION_BUSY', 'a migration is under way'))
      return
    }
    this.#channel = channel
    this.#answers.connect(channel)
    if (this.#isRecovery) {
      this.#counters.endedAt = 0
      this.#state.enter('postcopy-recover')
    } else {
      this.#counters.startedAt = now()
      this.#state.enter('active')
    }
    channel.start({
      consume: (bytes, start, end) => this.#consume(bytes, start, end),
      end: () => this.#ended(channel),
      close: (error) => this.#ended(channel, error),
    })
  }

  /** Takes a silent connection that was made before the source's; it may be the preempt channel. */
  acceptEarly(channel: Channel): void {
    if (!this.#mayPreempt) {
      channel.destroy()
      return
    }
    channel.detectSilence(this.#options.parameters['x-silence-timeout'])
    this.#offerPreempt((preempt) => preempt.addEarly(channel))
  }

  get #mayPreempt(): boolean {
    return this.#options.capabilities['postcopy-preempt']
  }

  #offerPreempt(offer: (preempt: PreemptChannel) => void): void {
    this.#preempt ??= new PreemptChannel()
    offer(this.#preempt)
    this.#startPreempt()
  }

  /** Answers a ping that stood in the package, when everything before it is loaded. */
  pong(value: number): void {
    this.#answers.send((out) => encodePong(out, value))
  }

  /** The main thread has taken the guest; it runs, or is stopped here. */
  guestRunning(): void {
    this.#guestRuns = true
    this.#guard?.guestRunning()
    if (this.#postcopy === 'listening') this.#postcopy = 'running'
    if (this.#state.is('postcopy-device')) this.#state.enter('postcopy-active')
    this.#finishIfDone()
  }

  /** A device refused its state: the main thread has given the guest back. */
  loadFailed(error: PostcopyError): void {
    this.#fail(error)
  }

  get #isOver(): boolean {
    return this.#state.is('completed', 'failed', 'postcopy-paused')
  }

  /** Breaks the connection of a guest that runs here, or stops waiting for it; else nothing happens. */
  pause(): void {
    if (this.#state.is('postcopy-active', 'postcopy-recover-setup', 'postcopy-recover')) {
      this.#fail(pausedOnPurpose())
    }
  }

  /** Something went wrong in this thread that nobody foresaw. */
  abandon(error: unknown): void {
    this.#fail(error)
  }

  #consume(bytes: Uint8Array, start: number, end: number): number {
    if (this.#isOver) return end - start
    try {
      this.#counters.transferredBytes += end - start
      const taken = this.#decoder.write(bytes, start, end)
      this.#faults?.settle()
      if (taken > LONG_READ_BYTES) this.#faults?.drain()
      this.#answers.flush()
      this.#answers.checkUnread()
      this.#finishIfDone()
      return taken
    } catch (error) {
      this.#fail(error)
      return end - start
    }
  }

  #handler(): StreamHandler {
    return {
      configuration: (machineType, raw) => {
        const own = this.#options.machineType
        if (own === undefined) this.#host.checkConfiguration(machineType, raw)
        else checkMachineType(machineType, own)
      },
      openReturnPath: () => {
        this.#answers.isOpen = true
      },
      ping: (value) => this.#ping(value),
      advise: (summary, targetPageSize) => this.#advise(summary, targetPageSize),
      sectionStart: ({ id }) => {
        this.#ramSectionId = id
      },
      sectionPart: () => this.#refuseBeforeResume('a RAM section'),
      sectionEnd: () => this.#refuseBeforeResume('a RAM section'),
      ramBlocks: (blocks) => this.#ramBlocks(blocks),
      ...this.#ramHandler('main'),
      ramDiscard: (name, ranges) => this.#discard(this.#target(name), ranges),
      packaged: (blob, streamOffset) => this.#package(blob, streamOffset),
      deviceTail: (sections, streamOffset) => this.#devices(sections, streamOffset),
      endOfStream: () => this.#endOfStream(),
      resume: () => this.#resume(),
      recvBitmap: (name) => {
        if (!this.#state.is('postcopy-recover')) this.#misplaced('RECV_BITMAP')
        const { received } = this.#target(name)
        this.#answers.queueBitmap(name, received.bytes)
      },
    }
  }

  /** The source knows what is missing. What is waited for is asked for again. */
  #resume(): void {
    if (!this.#state.is('postcopy-recover')) this.#misplaced('POSTCOPY_RESUME')
    this.#answers.send(encodeResumeAck)
    this.#state.enter('postcopy-active')
    this.#startPreempt()
    this.#faults?.restart(
      () => this.#askForPages(),
      (error) => this.#fail(error),
    )
  }

  #refuseBeforeResume(what: string): void {
    if (this.#state.is('postcopy-recover')) this.#misplaced(what)
  }

  #ramHandler(channel: ChannelName): RamHandler {
    return {
      ramRecords: (name, bytes, start, end) =>
        this.#placement.records(channel, this.#target(name), bytes, start, end),
      ramPage: (name, offset, bytes, start) =>
        this.#placement.page(channel, this.#target(name), offset, bytes, start),
      ramZero: (name, offset) => this.#placement.zero(channel, this.#target(name), offset),
    }
  }

  /** Once both are there: the connection, and memory that its pages can be placed in. */
  #startPreempt(): void {
    if (this.#postcopy !== 'listening' && this.#postcopy !== 'running') return
    if (this.#state.is('postcopy-recover')) return
    this.#preempt?.start(this.#ramHandler('preempt'), this.#announced, {
      placed: () => {
        this.#faults?.settle()
        this.#faults?.drain()
        this.#answers.flush()
        this.#finishIfDone()
      },
      ended: (marked) => {
        if ((marked && !this.#streamEnded) || this.#placement.complete) return
        this.#fail(
          new ConnectionError(
            'ERR_CONNECTION_CLOSED',
            'the source closed the preempt channel while pages were owed',
          ),
        )
      },
      failed: (error) => this.#fail(error),
    })
  }

  #target(name: string): DestinationBlock {
    return findBlock(this.#blocks, name)
  }

  #misplaced(command: string): never {
    throw new StateError('ERR_STATE_COMMAND', `${command} has no place here`, this.#postcopy)
  }

  #ping(value: number): void {
    if (!this.#answers.isOpen) {
      throw new StateError(
        'ERR_STATE_COMMAND',
        `PING ${value} before OPEN_RETURN_PATH`,
        this.#postcopy,
      )
    }
    // At once: what follows it may take longer than the source waits (emptying RAM).
    this.pong(value)
  }

  /** Before any RAM: can this host do it, and do both ends mean the same pages? */
  #advise(summary: number | undefined, targetPageSize: number | undefined): void {
    if (this.#postcopy !== 'none') this.#misplaced('a second POSTCOPY_ADVISE')
    if (!this.#options.capabilities['postcopy-ram']) {
      throw capabilityMismatch(
        'the source wants postcopy, but the capability postcopy-ram is off here',
      )
    }
    checkPageSizes(this.#blocks, summary, targetPageSize)
    const { userModeOnly } = this.#options
    this.#uffd = Userfaultfd.open({
      optional: ['THREAD_ID'],
      ...(userModeOnly === undefined ? {} : { userModeOnly }),
    })
    this.#host.holdUserfaultfd(this.#uffd)
    for (const { block } of this.#blocks) {
      this.#uffd.register(block.region.address, block.lengthBytes, { missing: true })
      this.#uffd.unregister(block.region.address, block.lengthBytes)
    }
    this.#placement.empty()
    this.#postcopy = 'advise'
  }

  #ramBlocks(announced: readonly RamBlockInfo[]): void {
    if (this.#options.capabilities['postcopy-ram'] && this.#postcopy === 'none') {
      throw capabilityMismatch(
        'the capability postcopy-ram is on here, but the source sent no advise',
      )
    }
    this.#channel?.checkReturnPath(this.#answers.isOpen)
    checkBlocks(this.#blocks, announced)
    this.#announced = announced
    this.#host.announced({ ramSectionId: this.#ramSectionId, blocks: announced })
    if (this.#postcopy === 'none') this.#placement.empty()
  }

  #discard(target: DestinationBlock, ranges: Float64Array): void {
    if (this.#postcopy === 'advise') {
      this.#placement.forbidHugePages()
      this.#postcopy = 'discard'
    } else if (this.#postcopy !== 'discard') {
      this.#misplaced('POSTCOPY_RAM_DISCARD')
    }
    for (let at = 0; at < ranges.length; at += 2) {
      this.#placement.discard(target, ranges[at] ?? 0, ranges[at + 1] ?? 0)
    }
  }

  /** LISTEN is acted on here and at once; the rest is the main thread's, while pages flow. */
  #package(blob: Uint8Array<ArrayBuffer>, streamOffset: number): void {
    const uffd = this.#uffd
    if ((this.#postcopy !== 'discard' && this.#postcopy !== 'advise') || uffd === undefined) {
      this.#misplaced('PACKAGED')
    }
    checkListen(blob, streamOffset)
    if (this.#postcopy === 'advise') this.#placement.forbidHugePages()
    this.#guardOwner(uffd)
    this.#placement.arm(uffd)
    this.#faults = this.#makeFaultService(uffd)
    this.#faults.start(
      () => this.#askForPages(),
      (error) => this.#fail(error),
    )
    this.#postcopy = 'listening'
    this.#startPreempt()
    this.#state.enter('postcopy-device')
    this.#host.loadPackage(blob, streamOffset)
  }

  /** And looks for the answer, or for further faults, before it sleeps. */
  #askForPages(): void {
    if (!this.#answers.flush() || this.#uffd === undefined) return
    const pages = this.#preempt?.isOver === false ? this.#preempt : this.#channel
    pages?.spin(this.#options.parameters['x-spin-us'], this.#uffd.fd)
  }

  #makeFaultService(uffd: Userfaultfd): FaultService {
    return new FaultService(
      uffd,
      this.#blocks,
      this.#placement,
      this.#counters,
      this.#faultLog,
      (target, offset) => {
        const name = target === this.#lastRequested ? undefined : target.block.name
        this.#lastRequested = target
        this.#answers.queueRequest(name, offset, target.block.hostPageSize)
      },
    )
  }

  #devices(sections: Uint8Array<ArrayBuffer>, streamOffset: number): void {
    if (this.#postcopy === 'listening' || this.#postcopy === 'running') {
      this.#misplaced('a device section behind the package')
    }
    this.#devicesCame = true
    this.#placement.checkComplete()
    this.#host.loadDevices(sections, streamOffset)
  }

  #endOfStream(): void {
    // The last requested pages may still be on their way on the other channel, while it is open.
    if (this.#preempt?.isOver !== false) this.#placement.checkComplete()
    const precopy = this.#postcopy === 'none' || this.#postcopy === 'advise'
    if (this.#postcopy === 'discard') this.#misplaced('EOF behind a discard, without a package,')
    // A machine without any device has no device tail, but runs all the same.
    if (precopy && !this.#devicesCame) this.#devices(new Uint8Array(0), this.#decoder.streamOffset)
    this.#streamEnded = true
  }

  #finishIfDone(): void {
    if (!this.#streamEnded || !this.#guestRuns || this.#state.is('completed')) return
    if (this.#preempt !== undefined && !this.#placement.complete) return
    if (this.#postcopy === 'running') {
      this.#disarm()
      this.#placement.allowHugePages()
    }
    this.#postcopy = 'end'
    this.#counters.endedAt = now()
    this.#host.whole()
    this.#hangUp(0)
    this.#state.enter('completed')
  }

  /** The source has closed its side, or the connection is gone. */
  #ended(channel: Channel, cause?: ConnectionError): void {
    // With everything here the guest needs no source any more.
    if (this.#isOver || this.#streamEnded) return
    const text = `${channel.peer} closed the connection in the middle of the migration, after ${this.#decoder.streamOffset} bytes`
    this.#fail(cause ?? new ConnectionError('ERR_CONNECTION_CLOSED', text))
  }

  /** Sorts a failure: whose guest is it? */
  #fail(error: unknown): void {
    if (this.#isOver) return
    if (this.#host.giveBack()) {
      this.#refuse(error)
    } else if (this.#postcopy === 'listening' || this.#postcopy === 'running') {
      this.#faults?.stop()
      this.#guard?.begin(error)
      this.#counters.endedAt = now()
      this.#state.enter('postcopy-paused', error)
      this.#channel?.destroy()
      this.#preempt?.close()
    }
    // What comes behind a whole precopy does not concern the guest, which runs.
  }

  /** Tells the source to go on with its guest: ours has not run, and will not. */
  #refuse(error: unknown): void {
    // Wakes the main thread, should it wait for a page: what it loads is not used any more.
    this.#disarm()
    this.#counters.endedAt = now()
    this.#hangUp(1)
    // A source that cannot be told must not be let to believe that all of its bytes were taken.
    if (!this.#answers.isOpen) this.#channel?.destroy()
    this.#state.enter('failed', error)
  }

  /**
   * Says the last word, and closes when the source has closed: what is still on its way from it
   * would otherwise reset the connection, and the word be lost.
   */
  #hangUp(shutStatus: number): void {
    this.#answers.send((out) => encodeShut(out, shutStatus))
    const channel = this.#channel
    if (channel === undefined) return
    channel.endWriting()
    this.#preempt?.close()
    setTimeout(() => channel.destroy(), LINGER_MS).unref()
  }
}
