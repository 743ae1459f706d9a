/**
 * Receives the stream at the destination, by the table of phases (phases.ts).
 *
 * Before the main thread has taken the guest, a failure is reported to the source, which keeps the
 * guest. After that a broken connection pauses the migration, and threads that need a missing page
 * stay parked. The receiver of a recovery continues from there (protocol section 7).
 */
import { ConnectionError, type PostcopyError, StateError } from '../errors.js'
import { Userfaultfd } from '../kernel/index.js'
import type { Channel, SourceListenerHost } from '../net/index.js'
import {
  type ChannelName,
  type Counters,
  type MigrationState,
  now,
  pausedOnPurpose,
} from '../migration/index.js'
import {
  checkListen,
  encodePong,
  encodeResumeAck,
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
import { checkComplete, type DestinationBlock, isCompleteBut, takeLeftOut } from './block.js'
import type { FaultLog } from './fault-log.js'
import { IncomingRam } from './incoming-ram.js'
import { type IncomingActions, IncomingSession } from './incoming-session.js'
import { MissingPages, type MissingPagesOptions } from './missing-pages.js'
import type { IncomingEvent } from './phases.js'
import { Placement } from './placement.js'
import type { Announced, Resumption } from './protocol.js'

/** How long a source may take to close the connection after SHUT. */
const LINGER_MS = 2000

/** The main thread's functions that the receiver calls. */
export interface ReceiverHost {
  stateChanged(state: MigrationState, error: unknown): void
  /** Keeps the descriptor open whatever happens to this thread. */
  holdUserfaultfd(uffd: Userfaultfd): void
  /** Keeps it for a recovery, whose source does not send it again. */
  announced(announced: Announced): void
  /** Called if the options name no machine type; rejected by {@link Receiver.loadFailed}. */
  checkConfiguration(machineType: string, raw: Uint8Array): void
  /** Loads the devices and runs the guest; answered by {@link Receiver.guestRunning}. */
  loadPackage(blob: Uint8Array<ArrayBuffer>, streamOffset: number): void
  loadDevices(sections: Uint8Array<ArrayBuffer>, streamOffset: number): void
  /** Ensures that the guest never runs here; false if the main thread has taken it. */
  giveBack(): boolean
  /** The guest that runs here needs nothing more from the source. */
  whole(): void
}

export interface ReceiverOptions extends MissingPagesOptions {
  readonly machineType: string | undefined
  /** Continues a postcopy that is paused. */
  readonly resumption: Resumption | undefined
}

export class Receiver implements SourceListenerHost {
  readonly #host: ReceiverHost
  readonly #blocks: readonly DestinationBlock[]
  readonly #options: ReceiverOptions
  readonly #counters: Counters
  readonly #ram: IncomingRam
  readonly #placement: Placement
  readonly #session: IncomingSession
  readonly #decoder: StreamDecoder
  readonly #missing: MissingPages
  #ramSectionId = 0
  #announced: readonly RamBlockInfo[]
  /** The value of the source's last ping. */
  #lastPing: number | undefined

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
    this.#ram = new IncomingRam(blocks, counters)
    this.#placement = new Placement(blocks, counters)
    const { resumption, parameters } = options
    this.#announced = resumption?.announced.blocks ?? []
    this.#session = new IncomingSession(
      {
        initial: resumption === undefined ? 'none' : 'to-recover',
        counters,
        parameters,
        lingerMs: LINGER_MS,
      },
      {
        stateChanged: (state, error) => host.stateChanged(state, error),
        decode: (bytes, start, end) => this.#decoder.write(bytes, start, end),
        afterRead: (takenBytes) => this.#afterRead(takenBytes),
        closed: (channel, cause) => this.#closed(channel, cause),
        giveBack: () => host.giveBack(),
        failureActions: (error) => ({
          refuse: () => this.#refuse(),
          keepParked: () => {
            this.#missing.keepParked(error)
            this.#counters.endedAt = now()
          },
          close: () => this.#close(),
        }),
      },
    )
    this.#decoder = new StreamDecoder(this.#handler(), {
      limits: { maxPackageBytes: parameters['x-max-package-bytes'] },
      pageSizeOf: (name) => blocks.find(({ block }) => block.name === name)?.block.hostPageSize,
      ...(resumption === undefined ? {} : { resume: resumption.announced }),
    })
    this.#missing = new MissingPages(
      blocks,
      options,
      counters,
      faultLog,
      this.#placement,
      this.#session,
      {
        holdUserfaultfd: (uffd) => host.holdUserfaultfd(uffd),
        announcedBlocks: () => this.#announced,
        preemptPages: this.#ramHandler('preempt'),
        placed: () => this.#finishIfDone(),
        isComplete: () => isCompleteBut(this.#inStreamOrder, this.#lastPing),
      },
    )
    if (resumption === undefined) return
    // The source of a recovery does not open the return path again, but reads it.
    this.#session.returnPath.isOpen = true
    this.#missing.takeOver(Userfaultfd.attach(resumption.userfaultfdId))
  }

  /** Call before listening. @throws KernelError `ENOMEM` if there are too few huge pages */
  async begin(): Promise<void> {
    if (this.#session.phases.accepts('recover')) this.#session.phases.take('recover')
    else await this.#ram.reserve()
  }

  /** Call when the listener is open. */
  listening(): void {
    if (this.#session.phases.accepts('listen')) this.#session.phases.take('listen')
  }

  /** Whether the source has connected; the next connection may be its preempt channel. */
  get isConnected(): boolean {
    return this.#session.channel !== undefined
  }

  /**
   * Receives the migration from this connection; rejects every later one except the preempt
   * channel.
   */
  accept(channel: Channel): void {
    if (!this.isConnected) {
      this.#session.accept(channel)
    } else if (!this.#missing.offerPreempt(channel)) {
      channel.destroy(new ConnectionError('ERR_CONNECTION_BUSY', 'a migration is under way'))
    }
  }

  /** Takes a silent connection made before the source's; it may be the preempt channel. */
  acceptEarly(channel: Channel): void {
    if (!this.#missing.offerEarlyPreempt(channel)) channel.destroy()
  }

  /** Answers a ping of the package, after everything before it in the package was loaded. */
  pong(value: number): void {
    this.#session.returnPath.send((out) => encodePong(out, value))
  }

  /** The main thread has taken the guest; it runs, or is stopped here. */
  guestRunning(): void {
    const { phases } = this.#session
    this.#missing.guestRunning()
    // The migration may be paused or recovering by now, if it took long to stop a machine that
    // failed to start.
    if (phases.accepts('taken')) phases.take('taken')
    this.#finishIfDone()
  }

  /** Loading the devices failed: the main thread has given the guest back. */
  loadFailed(error: PostcopyError): void {
    this.#session.fail(error)
  }

  /**
   * Breaks the connection of a guest that runs here, or ends a recovery; otherwise does nothing.
   */
  pause(): void {
    const mayPause = ['running', 'running-ended', 'recover-setup', 'recover'] as const
    if (this.#session.phases.is(...mayPause)) this.#session.fail(pausedOnPurpose())
  }

  /** Ends the migration after a failure of this thread; the state depends on where the guest is. */
  fail(error: unknown): void {
    this.#session.fail(error)
  }

  #afterRead(takenBytes: number): void {
    const { returnPath } = this.#session
    this.#missing.afterRead(takenBytes)
    returnPath.flush()
    returnPath.checkUnread()
    this.#finishIfDone()
  }

  #handler(): StreamHandler {
    const take = (event: IncomingEvent, actions: IncomingActions): void =>
      this.#session.phases.take(event, actions)
    return {
      configuration: (machineType, raw) => {
        const own = this.#options.machineType
        if (own === undefined) this.#host.checkConfiguration(machineType, raw)
        else checkMachineType(machineType, own)
      },
      openReturnPath: () => {
        this.#session.returnPath.isOpen = true
      },
      ping: (value) => this.#ping(value),
      advise: (summary, targetPageSize) =>
        take('POSTCOPY_ADVISE', { prepare: () => this.#prepare(summary, targetPageSize) }),
      sectionStart: ({ id }) => {
        this.#ramSectionId = id
      },
      sectionPart: () => this.#session.phases.check('RAM'),
      sectionEnd: () => this.#session.phases.check('RAM'),
      ramBlocks: (blocks) => this.#ramBlocks(blocks),
      ...this.#ramHandler('main'),
      ramDiscard: (name, ranges) => {
        const target = this.#target(name)
        take('POSTCOPY_RAM_DISCARD', {
          beginDiscards: () => this.#ram.forbidHugePages(),
          discard: () => this.#discard(target, ranges),
        })
      },
      packaged: (blob, streamOffset) =>
        take('PACKAGED', {
          beginDiscards: () => this.#ram.forbidHugePages(),
          arm: () => {
            checkListen(blob, streamOffset)
            this.#missing.arm()
          },
          loadPackage: () => {
            this.#host.loadPackage(blob, streamOffset)
            // Pages that have already arrived there may complete the migration.
            this.#missing.startPreempt()
          },
        }),
      deviceTail: (sections, streamOffset) =>
        take('DEVICES', {
          checkComplete: () => this.#checkComplete(),
          loadDevices: () => this.#host.loadDevices(sections, streamOffset),
        }),
      endOfStream: () =>
        take('EOF', {
          checkComplete: () => this.#checkComplete(),
          loadNothing: () => this.#host.loadDevices(new Uint8Array(0), this.#decoder.streamOffset),
        }),
      recvBitmap: (name) => {
        const { received } = this.#target(name)
        take('RECV_BITMAP', {
          sendBitmap: () => this.#session.returnPath.queueBitmap(name, received.bytes),
        })
      },
      resume: () =>
        take('POSTCOPY_RESUME', {
          acknowledge: () => this.#session.returnPath.send(encodeResumeAck),
          askAgain: () => this.#missing.restart(),
        }),
    }
  }

  /** In postcopy the last requested pages may still arrive on the preempt channel. */
  #checkComplete(): void {
    const isPostcopy = this.#session.phases.is('listening', 'running')
    if (isPostcopy && this.#missing.isPreemptOpen) return
    if (isPostcopy && isCompleteBut(this.#inStreamOrder, this.#lastPing)) return
    checkComplete(this.#blocks)
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

  get #inStreamOrder(): DestinationBlock[] {
    return this.#announced.map(({ name }) => this.#target(name))
  }

  #target(name: string): DestinationBlock {
    return findBlock(this.#blocks, name)
  }

  #ping(value: number): void {
    if (!this.#session.returnPath.isOpen) {
      const text = `PING ${value} before OPEN_RETURN_PATH`
      throw new StateError('ERR_STATE_COMMAND', text, this.#session.phases.phase)
    }
    this.#lastPing = value
    // Answered at once: the next element (emptying RAM) may take longer than the source waits.
    this.pong(value)
  }

  /** Before any RAM: checks that this host can do it, and that both ends mean the same pages. */
  #prepare(summary: number | undefined, targetPageSize: number | undefined): void {
    if (!this.#options.capabilities['postcopy-ram']) {
      throw capabilityMismatch(
        'the source requests postcopy, but the capability postcopy-ram is off here',
      )
    }
    checkPageSizes(this.#blocks, summary, targetPageSize)
    this.#missing.open()
    this.#ram.empty()
  }

  #ramBlocks(announced: readonly RamBlockInfo[]): void {
    const isWithoutAdvise = this.#session.phases.is('precopy')
    if (this.#options.capabilities['postcopy-ram'] && isWithoutAdvise) {
      throw capabilityMismatch(
        'the capability postcopy-ram is on here, but the source sent no POSTCOPY_ADVISE',
      )
    }
    this.#session.channel?.checkReturnPath(this.#session.returnPath.isOpen)
    checkBlocks(this.#blocks, announced)
    this.#announced = announced
    this.#host.announced({ ramSectionId: this.#ramSectionId, blocks: announced })
    if (isWithoutAdvise) this.#ram.empty()
  }

  #discard(target: DestinationBlock, ranges: Float64Array): void {
    for (let at = 0; at < ranges.length; at += 2) {
      this.#ram.discard(target, ranges[at] ?? 0, ranges[at + 1] ?? 0)
    }
  }

  #finishIfDone(): void {
    const { phases } = this.#session
    if (!phases.accepts('whole') || !this.#missing.isComplete) return
    phases.take('whole', {
      disarm: () => {
        this.#missing.disarm()
        takeLeftOut(this.#blocks)
        this.#ram.allowHugePages()
      },
      confirm: () => {
        this.#counters.endedAt = now()
        this.#host.whole()
        this.#shut(0)
      },
    })
  }

  /** The source has closed its side, or the connection broke. */
  #closed(channel: Channel, cause: ConnectionError | undefined): void {
    // Once every page is here, the guest needs no source any more.
    if (this.#session.phases.accepts('closed')) return
    const text = `${channel.peer} closed the connection in the middle of the migration, after ${this.#decoder.streamOffset} bytes`
    this.#session.fail(cause ?? new ConnectionError('ERR_CONNECTION_CLOSED', text))
  }

  /** Tells the source to keep its guest: it has not run here, and will not. */
  #refuse(): void {
    // Wakes the main thread if it waits for a page; the result of its loading is not used any more.
    this.#missing.disarm()
    this.#counters.endedAt = now()
    this.#shut(1)
  }

  #close(): void {
    this.#session.channel?.destroy()
    this.#missing.closePreempt()
  }

  #shut(status: number): void {
    this.#session.shut(status)
    this.#missing.closePreempt()
  }
}
