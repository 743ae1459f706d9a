/**
 * Handles missing pages while the guest may touch them. Requests a page for each fault, receives
 * pages on the preempt channel, too, and guards the owner's thread against a wait without end.
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
  /** Kernel thread id of the destination's owner, if that is the main thread of the process. */
  readonly ownerThreadId: number | undefined
}

export interface MissingPagesHost {
  /** Keeps the descriptor open whatever happens to this thread. */
  holdUserfaultfd(uffd: Userfaultfd): void
  /** The RAM blocks that the source has announced. */
  announcedBlocks(): readonly RamBlockInfo[]
  /** Places the pages of the preempt channel. */
  readonly preemptPages: RamHandler
  /** Pages of the preempt channel were placed. */
  placed(): void
  /** Whether the source has sent every page that it is going to send. */
  isComplete(): boolean
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

  /** @throws KernelError if this host cannot handle faults in these blocks */
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

  /** Continues with memory that an earlier worker has armed; {@link restart} handles its faults. */
  takeOver(uffd: Userfaultfd): void {
    this.#host.holdUserfaultfd(uffd)
    this.#uffd = uffd
    this.#guardOwner(uffd)
    this.#guard?.guestRunning()
    this.#placement.takeOver(uffd)
    this.#faults = this.#makeFaultService(uffd)
  }

  /** From now on, a touch of a missing page is a fault, which is handled. */
  arm(): void {
    const uffd = this.#uffd
    if (uffd === undefined)
      throw new PostcopyError('ERR_INTERNAL', 'a package without POSTCOPY_ADVISE')
    this.#guardOwner(uffd)
    this.#placement.arm(uffd)
    this.#faults = this.#makeFaultService(uffd)
    this.#faults.start(
      () => this.#sendRequests(),
      (error) => this.#session.fail(error),
    )
  }

  /** Missing pages cause no faults any more. Wakes the threads that wait for one. */
  disarm(): void {
    this.#faults?.stop()
    this.#placement.disarm()
    this.#guard?.stop()
  }

  /** Call when the source of a recovery knows what is missing: requests the awaited pages again. */
  restart(): void {
    this.startPreempt()
    this.#faults?.restart(
      () => this.#sendRequests(),
      (error) => this.#session.fail(error),
    )
  }

  /** Leaves threads that need a missing page parked. @param cause - why the migration is paused */
  keepParked(cause: unknown): void {
    this.#faults?.stop()
    this.#guard?.begin(cause)
  }

  /** Call when the devices are loaded. */
  guestRunning(): void {
    this.#guard?.guestRunning()
  }

  /** Looks for faults after the pages of a read from the source's connection were placed. */
  afterRead(takenBytes: number): void {
    this.#faults?.settle()
    if (takenBytes > LONG_READ_BYTES) this.#faults?.drain()
  }

  // --- the preempt channel

  /** Requested pages may still arrive on the preempt channel. */
  get isPreemptOpen(): boolean {
    return this.#preempt?.isOver === false
  }

  /** No page of the preempt channel is missing. */
  get isComplete(): boolean {
    return this.#preempt === undefined || this.#host.isComplete()
  }

  /** Offers a connection made after the source's first one. @returns whether it is used */
  offerPreempt(channel: Channel): boolean {
    if (!this.#mayPreempt || this.#preempt?.hasExpected === true) return false
    this.#offer(channel, (preempt) => preempt.add(channel))
    return true
  }

  /**
   * Offers a silent connection made before the source's first one. @returns whether it may be the
   * preempt channel
   */
  offerEarlyPreempt(channel: Channel): boolean {
    if (!this.#mayPreempt) return false
    this.#offer(channel, (preempt) => preempt.addEarly(channel))
    return true
  }

  /** Reads the preempt channel, if there is one and memory is armed. */
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
        if ((marked && !hasEnded) || this.#host.isComplete()) return
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

  /** Call before memory is armed, and before a later worker reads faults. */
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
