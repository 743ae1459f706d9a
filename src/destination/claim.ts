import { type GuestLocation, SharedState } from '../migration/index.js'

const states = ['none', 'loading', 'lost', 'running', 'whole'] as const
export type ClaimState = (typeof states)[number]

/**
 * Which end owns the guest, in memory that the destination's threads share (docs/safety.md).
 *
 * ```
 * none ── beginLoading ── loading ── take ── running ── becomeWhole ── whole
 *   └──────── giveBack ──────┴── lost
 * ```
 *
 * The main thread takes the guest to run it. Either thread gives it back if the migration fails
 * first. One of the two exchanges wins, and neither can be undone. A guest that was taken is never
 * given back, whatever fails later.
 */
export class Claim {
  readonly #state: SharedState<ClaimState>

  /**
   * @param buffer - that of the other thread; default: a new one, in which the guest is not here
   */
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

  /** Call before the devices are loaded. @returns false if the guest was given back */
  beginLoading(): boolean {
    return this.#state.exchange('none', 'loading') === 'none'
  }

  /**
   * Makes this end the owner, which may run the guest. @returns false if it was given back before
   */
  take(): boolean {
    return this.#state.exchange('loading', 'running') === 'loading'
  }

  /**
   * Ensures that the guest never runs here, so that the source may be told to run it.
   *
   * @returns false if the guest was taken before
   */
  giveBack(): boolean {
    return this.#state.exchangeAny(['none', 'loading'], 'lost') || this.state === 'lost'
  }

  /** The guest, which was taken, needs nothing more from the source. */
  becomeWhole(): void {
    this.#state.exchange('running', 'whole')
  }
}

/** As far as a destination can know, the source owns a guest that is not here. */
export function locationAtDestination(state: ClaimState): Exclude<GuestLocation, 'unknown'> {
  return state === 'running' || state === 'whole' ? 'here' : 'elsewhere'
}
