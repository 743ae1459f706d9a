import { type GuestLocation, SharedState } from '../migration/index.js'

const states = ['none', 'precopy', 'postcopy', 'claimed', 'confirmed'] as const
export type HandoverState = (typeof states)[number]

/**
 * Whether the destination may have the guest, in shared memory that outlives the source's worker
 * (docs/safety.md).
 *
 * ```
 * none ─┬─ handOver ── postcopy ── claim ── claimed ─┬─ confirm ── confirmed
 *       └─ handOver ── precopy ──────────────────────┘
 * ```
 *
 * A refusal by the destination (`giveBack`) leads from `precopy` and `postcopy` back to `none`.
 * `takeBack` leads there from any state: the user knows that the guest is not at the destination.
 */
export class Handover {
  readonly #state: SharedState<HandoverState>

  /** @param buffer - that of the other thread; default: a new one, for a guest that is here */
  constructor(buffer?: SharedArrayBuffer) {
    this.#state = new SharedState(states, buffer)
  }

  get buffer(): SharedArrayBuffer {
    return this.#state.buffer
  }

  get state(): HandoverState {
    return this.#state.current
  }

  /** Call before the bytes that let the destination run the guest. */
  handOver(how: 'precopy' | 'postcopy'): void {
    this.#state.exchange('none', how)
  }

  /** The destination has confirmed that it has the guest, and still needs pages. */
  claim(): void {
    this.#state.exchange('postcopy', 'claimed')
  }

  /** The destination has confirmed that it needs nothing more. */
  confirm(): void {
    this.#state.exchangeAny(['precopy', 'postcopy', 'claimed'], 'confirmed')
  }

  /** The destination has refused the guest before running it. */
  giveBack(): void {
    this.#state.exchangeAny(['precopy', 'postcopy'], 'none')
  }

  /** The user has confirmed that the guest is not at the destination. */
  takeBack(): void {
    this.#state.exchangeAny(['precopy', 'postcopy', 'claimed', 'confirmed'], 'none')
  }
}

/** @param hasReturnPath - whether the destination can answer and so confirm the guest */
export function locationAtSource(state: HandoverState, hasReturnPath: boolean): GuestLocation {
  switch (state) {
    case 'none':
      return 'here'
    case 'precopy':
    case 'postcopy':
      return 'unknown'
    case 'claimed':
      return 'elsewhere'
    case 'confirmed':
      return hasReturnPath ? 'elsewhere' : 'unknown'
  }
}
