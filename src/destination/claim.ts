import { type GuestLocation, SharedState } from '../migration/index.js'

const states = ['none', 'loading', 'lost', 'running', 'whole'] as const
export type ClaimState = (typeof states)[number]

/**
 * Whose the guest is, in memory that the destination's threads share (docs/safety.md).
 *
 * ```
 * none ── beginLoading ── loading ── take ── running ── becomeWhole ── whole
 *   └──────── giveBack ──────┴── lost
 * ```
 *
 * The main thread takes the guest to run it, either thread gives it back when the migration fails
 * first. One of the two exchanges wins, and neither can be undone: a guest that was taken is never
 * given back, whatever fails later.
 */
export class Claim {
  readonly #state: SharedState<ClaimState>

  /** @param buffer - that of the other thread; default: a new one, in which the guest is not here */
  constructor(buffer?: SharedArrayBuffer) {
    this.#state = new SharedState(states, buffer)
  }

  get buffer(): SharedArrayBuffer {
    return this.#state.buffer
  }

  get state(): ClaimState {
    return this.#state.current
  }

  /** The guest was taken: it runs here, or is stopped here by its owner. */
  get isTaken(): boolean {
    return locationAtDestination(this.state) === 'here'
  }

  /** The devices are about to be loaded. @returns false where the guest was given back */
  beginLoading(): boolean {
    return this.#state.exchange('none', 'loading') === 'none'
  }

  /** The guest is ours to run from here on. @returns false where it was given back before */
  take(): boolean {
    return this.#state.exchange('loading', 'running') === 'loading'
  }

  /**
   * The guest does not run here, and never will: the source may be told to run it.
   *
   * @returns false where the guest was taken before
   */
  giveBack(): boolean {
    return this.#state.exchangeAny(['none', 'loading'], 'lost') || this.state === 'lost'
  }

  /** The guest, which was taken, needs nothing from the source any more. */
  becomeWhole(): void {
    this.#state.exchange('running', 'whole')
  }
}

/** A guest that is not here is the source's, as far as a destination can know. */
export function locationAtDestination(state: ClaimState): Exclude<GuestLocation, 'unknown'> {
  return state === 'running' || state === 'whole' ? 'here' : 'elsewhere'
}
