/**
 * Pages that are missing while the guest may touch them: faults are answered and asked for, on the
 * connection or by the preempt channel's pages, and a thread that would wait for ever is guarded.
 */
import { ConnectionError, PostcopyError } from '../errors.js'
import { Userfaultfd } from '../kernel/index.js'
import type { Capabilities, Counters, Parameters } from '../migration/index.js'
import type { Channel } from '../net/index.js'
import type { RamBlockInfo, RamHandler } from '../stream/index.js'
import type { DestinationBlock } from './block.js'
import type { FaultLog } from './fault-log.js'
import { FaultService } from './fault-service.js'
import type { IncomingSession } from './incoming-session.js'
import { OwnerGuard } from './owner-guard.js'
import type { Placement } from './placement.js'
import { PreemptChannel } from './preempt-channel.js'

/** A read of more than one requested page takes long enough for new faults to queue. */
const LONG_READ_BYTES = 8 * 1024

export interface MissingPagesOptions {
  readonly capabilities: Capabilities
  readonly parameters: Parameters
  readonly userModeOnly: boolean | undefined
  /** Kernel thread id of the destination's owner, where that is the main thread of the process. */
  readonly ownerThreadId: number | undefined
}

export interface MissingPagesHost {
  /** Keep the descriptor open whatever happens to this thread. */
  holdUserfaultfd(uffd: Userfaultfd): void
  /** The RAM blocks that the source has announced. */
  announcedBlocks(): readonly RamBlockInfo[]
  /** Places what arrives on the preempt channel. */
  readonly preemptPages: RamHandler
  /** Pages were placed that arrived on the preempt channel. */
  placed(): void
}

export class MissingPages {
  readonly #blocks: readonly DestinationBlock[]
  readonly #options: MissingPagesOptions
  readonly #counters: Counters
  readonly #faultLog: FaultLog
  readonly #placement: Placement
  readonly #session: IncomingSession
  readonly #host: MissingPagesHost
  #uffd: Userfaultfd | undefined
  #faults: FaultService | undefined
  #guard: OwnerGuard | undefined
  #preempt: PreemptChannel | undefined
  #lastRequested: DestinationBlock | undefined

  constructor(
    blocks: readonly DestinationBlock[],
    options: MissingPagesOptions,
    counters: Counters,
    faultLog: FaultLog,
    placement: Placement,
    session: IncomingSession,
    host: MissingPagesHost,
  ) {
    this.#blocks = blocks
    this.#options = options
    this.#counters = counters
    this.#faultLog = faultLog
    this.#placement = placement
    this.#session = session
    this.#host = host
  }

  /** @throws KernelError where this host cannot handle faults in these blocks */
  open(): void {
    const { userModeOnly } = this.#options
    const uffd = Userfaultfd.open({
      optional: ['THREAD_ID'],
      ...(userModeOnly === undefined ? {} : { userModeOnly }),
    })
    this.#uffd = uffd
    this.#host.holdUserfaultfd(uffd)
    for (const { block } of this.#blocks) {
      uffd.register(block.region.address, block.lengthBytes, { missing: true })
      uffd.unregister(block.region.address, block.lengthBytes)
    }
  }

  /** Goes on with the memory that an earlier worker has armed; {@link restart} answers its faults. */
  takeOver(uffd: Userfaultfd): void {
    this.#host.holdUserfaultfd(uffd)
    this.#uffd = uffd
    this.#guardOwner(uffd)
    this.#guard?.guestRunning()
    this.#placement.takeOver(uffd)
    this.#faults = this.#makeFaultService(uffd)
  }

  /** From here on missing pages are faults, which are answered. */
  arm(): void {
    const uffd = this.#uffd
    if (uffd === undefined) throw new PostcopyError('ERR_INTERNAL', 'a package without advise')
    this.#guardOwner(uffd)
    this.#placement.arm(uffd)
    this.#faults = this.#makeFaultService(uffd)
    this.#faults.start(
      () => this.#sendRequests(),
      (error) => this.#session.fail(error),
    )
  }

  /** Missing pages are no faults any more. Wakes threads that wait for one. */
  disarm(): void {
    this.#faults?.stop()
    this.#placement.disarm()
    this.#guard?.stop()
  }

  /** The source of a recovery knows what is missing: asks again for what is waited for. */
  restart(): void {
    this.startPreempt()
    this.#faults?.restart(
      () => this.#sendRequests(),
      (error) => this.#session.fail(error),
    )
  }

  /** Threads that need a missing page stay parked. @param cause - why the migration is paused */
  keepParked(cause: unknown): void {
    this.#faults?.stop()
    this.#guard?.begin(cause)
  }

  /** The devices are loaded. */
  guestRunning(): void {
    this.#guard?.guestRunning()
  }

  /** Looks for faults after a read of the source's connection was placed. */
  afterRead(takenBytes: number): void {
    this.#faults?.settle()
    if (takenBytes > LONG_READ_BYTES) this.#faults?.drain()
  }

  // --- the preempt channel

  /** Requested pages may still be on their way there. */
  get isPreemptOpen(): boolean {
    return this.#preempt?.isOver === false
  }

  /** Every page is here, as far as the preempt channel may have had it. */
  get isComplete(): boolean {
    return this.#preempt === undefined || this.#placement.complete
  }

  /** A connection after the source's own. @returns whether it is taken for the preempt channel */
  offerPreempt(channel: Channel): boolean {
    if (!this.#mayPreempt || this.#preempt?.hasExpected === true) return false
    this.#offer(channel, (preempt) => preempt.add(channel))
    return true
  }

  /** A silent connection from before the source's own. @returns whether it may be the preempt channel */
  offerEarlyPreempt(channel: Channel): boolean {
    if (!this.#mayPreempt) return false
    this.#offer(channel, (preempt) => preempt.addEarly(channel))
    return true
  }

  /** Reads the preempt channel, where it is there and memory is armed. */
  startPreempt(): void {
    const { phases } = this.#session
    if (!phases.is('listening', 'listening-ended', 'running', 'running-ended')) return
    this.#preempt?.start(this.#host.preemptPages, this.#host.announcedBlocks(), {
      placed: () => {
        this.#faults?.settle()
        this.#faults?.drain()
        this.#session.returnPath.flush()
        this.#host.placed()
      },
      ended: (marked) => {
        const hasEnded = phases.is('listening-ended', 'running-ended')
        if ((marked && !hasEnded) || this.#placement.complete) return
        this.#session.fail(
          new ConnectionError(
            'ERR_CONNECTION_CLOSED',
            'the source closed the preempt channel while pages were owed',
          ),
        )
      },
      failed: (error) => this.#session.fail(error),
    })
  }

  closePreempt(): void {
    this.#preempt?.close()
  }

  get #mayPreempt(): boolean {
    return this.#options.capabilities['postcopy-preempt']
  }

  #offer(channel: Channel, offer: (preempt: PreemptChannel) => void): void {
    channel.detectSilence(this.#options.parameters['x-silence-timeout'])
    this.#preempt ??= new PreemptChannel()
    offer(this.#preempt)
    this.startPreempt()
  }

  /** To be called before memory is armed, and before a worker that follows reads faults. */
  #guardOwner(uffd: Userfaultfd): void {
    this.#guard = new OwnerGuard(uffd, this.#options.ownerThreadId, this.#blocks)
  }

  /** Sends queued page requests, and polls for the pages or for further faults before it sleeps. */
  #sendRequests(): void {
    if (!this.#session.returnPath.flush() || this.#uffd === undefined) return
    const pages = this.isPreemptOpen ? this.#preempt : this.#session.channel
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
        this.#session.returnPath.queueRequest(name, offset, target.block.hostPageSize)
      },
    )
  }
}
