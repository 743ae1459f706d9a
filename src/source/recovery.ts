/**
 * Recovers a paused postcopy: asks the destination which pages it has, and sends the others
 * (protocol section 7).
 *
 * ```
 * connect ─ RECV_BITMAP ─ bitmaps ─ RESUME ─ RESUME_ACK ─ push all ─ SHUT 0
 * ```
 *
 * The guest is stopped here and its RAM does not change. So the received bitmaps are all that the
 * source needs. Every failure leads back to `postcopy-paused`, any number of times.
 */
import { ConnectionError, PeerError } from '../errors.js'
import {
  type Capabilities,
  type Counters,
  type MigrationState,
  now,
  type Parameters,
  pausedOnPurpose,
  PhaseMachine,
} from '../migration/index.js'
import type { MigrationUri, TlsClient } from '../net/index.js'
import type { PageBitmap } from '../ram/index.js'
import { encode, encodeRecvBitmapRequest, encodeResume } from '../stream/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import type { SourceBlock } from './block.js'
import { type SourcePhaseMachine, sourcePhases } from './phases.js'
import { Session } from './session.js'

export interface RecoveryHost {
  /** `error`: the reason, if the state is a failure. */
  stateChanged(state: MigrationState, error: unknown): void
  /** The destination has confirmed that it has the guest. */
  claimed(): void
  /** The destination has confirmed that it needs nothing more. */
  confirmed(): void
}

export interface RecoveryOptions {
  readonly uri: MigrationUri
  readonly tls: TlsClient | undefined
  readonly ramSectionId: number | undefined
  readonly capabilities: Capabilities
  readonly parameters: Parameters
  readonly pageOrder?: SharedArrayBuffer | undefined
}

export class Recovery {
  #parameters: Parameters
  readonly #host: RecoveryHost
  readonly #blocks: readonly SourceBlock[]
  readonly #counters: Counters
  readonly #phases: SourcePhaseMachine
  readonly #session: Session
  readonly #giveUp = new AbortController()
  /** The bitmaps received so far, by block. */
  readonly #received = new Map<SourceBlock, PageBitmap>()

  constructor(
    host: RecoveryHost,
    blocks: readonly SourceBlock[],
    options: RecoveryOptions,
    counters: Counters,
  ) {
    this.#host = host
    this.#blocks = blocks
    this.#counters = counters
    this.#parameters = options.parameters
    this.#phases = new PhaseMachine(sourcePhases, 'paused', (state, error) =>
      host.stateChanged(state, error),
    )
    const { uri, tls, ramSectionId, capabilities, pageOrder } = options
    this.#session = new Session(
      blocks,
      this.#phases,
      {
        uri,
        tls,
        ramSectionId,
        capabilities,
        parameters: () => this.#parameters,
        signal: this.#giveUp.signal,
        pageOrder,
      },
      counters,
      {
        keepBitmap: (tracked, bitmap) => this.#keep(tracked.block.name, bitmap),
        claim: () => host.claimed(),
      },
    )
  }

  /** Never throws: the last state tells the result, and all resources are released before it. */
  async run(): Promise<void> {
    this.#counters.endedAt = 0
    this.#phases.take('connect')
    try {
      await this.#recover()
      this.#phases.take('confirmed', {
        confirm: () => this.#host.confirmed(),
        release: () => this.#release(),
      })
    } catch (error) {
      const isOnPurpose = this.#giveUp.signal.aborted
      const reason = isOnPurpose ? pausedOnPurpose() : this.#session.reasonFor(error)
      this.#release()
      this.#phases.take('broken', {}, reason)
    }
  }

  #release(): void {
    this.#counters.endedAt = now()
    this.#session.close()
  }

  get parameters(): Parameters {
    return this.#parameters
  }

  set parameters(parameters: Parameters) {
    this.#parameters = parameters
    this.#session.signal.notify()
  }

  /** Back to `postcopy-paused`. */
  pause(): void {
    this.#giveUp.abort()
    this.#session.break(pausedOnPurpose())
  }

  async #recover(): Promise<void> {
    const { ram } = this.#session
    const link = await this.#session.connect()
    this.#phases.take('connected')
    link.write(
      encode((out) => {
        for (const { block } of this.#blocks) encodeRecvBitmapRequest(out, block.name)
      }),
    )
    await this.#session.openUrgentLinkIfAwaited()
    await this.#answer('received bitmaps', () => this.#received.size === this.#blocks.length)
    for (const [tracked, received] of this.#received) checkBitmap(tracked, received)
    for (const [{ dirty, confirmed }, received] of this.#received) {
      confirmed.bytes.set(received.bytes)
      dirty.setAll()
      dirty.remove(received)
    }
    this.#session.leaveOutZeroPages()
    await this.#session.openUrgentLink()
    this.#phases.take('POSTCOPY_RESUME')
    link.write(encode(encodeResume))
    await this.#answer('RESUME_ACK', () => this.#phases.is('pushing'))
    ram.beginPostcopy()
    await this.#session.sendAll(link)
    await this.#session.confirmed()
  }

  async #answer(what: string, hasCome: () => boolean): Promise<void> {
    const timeoutMs = this.#parameters['x-timeout']
    if (await this.#session.waitFor(hasCome, timeoutMs)) return
    throw new ConnectionError(
      'ETIMEDOUT',
      `the destination has not sent its ${what} within ${timeoutMs} ms (x-timeout): is it postcopy-paused, and was migrate_recover given there?`,
    )
  }

  #keep(name: string, bitmap: PageBitmap): void {
    const tracked = this.#blocks.find(({ block }) => block.name === name)
    if (tracked === undefined || this.#received.has(tracked)) {
      throw new PeerError(
        'ERR_PEER_PROTOCOL',
        `the destination sent RECV_BITMAP of "${name}", which this source has not requested or already has`,
      )
    }
    this.#received.set(tracked, bitmap)
  }
}

/** @throws PeerError `ERR_PEER_BITMAP` if it cannot be the current bitmap of our destination */
function checkBitmap(tracked: SourceBlock, received: PageBitmap): void {
  const { block, dirty, leftOut, confirmed, available } = tracked
  const refuse = (page: number, why: string): never => {
    throw new PeerError(
      'ERR_PEER_BITMAP',
      `"${block.name}": ${why} (the page at ${page * TARGET_PAGE_SIZE}); the migration stays paused`,
    )
  }
  const unsent = Math.max(received.firstShared(dirty), received.firstShared(leftOut))
  if (unsent !== -1) {
    refuse(
      unsent,
      'the destination reports a page as received that was never sent: it belongs to another migration',
    )
  }
  const lost = confirmed.firstNotIn(received)
  if (lost !== -1) {
    refuse(
      lost,
      'the destination reports a page as missing that it had received: it is an older copy',
    )
  }
  if (available === undefined) return
  const missing = available.firstInNeither(received)
  if (missing !== -1)
    refuse(missing, 'the destination does not have a page that is not here either')
}
