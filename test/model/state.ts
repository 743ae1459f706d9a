/**
 * Two ends of one migration and the connection between them, as plain data.
 *
 * Each end is a process with a main thread and a worker, which exchange messages in order. The
 * state that they share in memory (Handover, Claim) is exchanged in one step. RAM is one page.
 */
import type { ClaimState } from '../../src/destination/claim.js'
import type { IncomingPhase } from '../../src/destination/phases.js'
import type { MigrationState } from '../../src/migration/states.js'
import type { HandoverState } from '../../src/source/handover.js'
import type { SourcePhase } from '../../src/source/phases.js'

/** Messages from the source; FOREIGN is a page of another guest. */
export type ToDestination =
  'PROLOGUE' | 'LAST' | 'RUN' | 'PAGE' | 'END' | 'RECV_BITMAP' | 'RESUME' | 'FOREIGN'
/** Messages from the destination; LOADED is the pong to ping 0x42. */
export type ToSource =
  'LOADED' | 'SHUT 0' | 'SHUT 1' | 'RESUME_ACK' | 'nothing received' | 'all received'

/** From a worker to its main thread; `exit` is the last one. A state is its own notice. */
export type SourceNotice = MigrationState | 'unconfirmed' | 'stop-guest' | 'resume-guest' | 'exit'
export type DestinationNotice = MigrationState | 'package' | 'devices' | 'exit'
/** To a worker. */
export type SourceRequest = 'cancel' | 'pause' | 'guest-stopped' | 'guest-not-stopped'
export type DestinationRequest = 'pong' | 'guest-running' | 'load-failed' | 'pause'

/** The step that a source's worker is at. */
export type SourceStep =
  | 'begin'
  | 'connect'
  | 'greet'
  | 'precopy'
  | 'stopping'
  | 'hand over'
  | 'last bytes'
  | 'handed over'
  | 'push'
  | 'confirm'
  | 'confirmed'
  | 'ask'
  | 'bitmap'
  | 'resume'
  | 'resumed'
  | 'conclude'
  | 'rest'
  | 'gone'

export interface SourceEnd {
  /** False if the process was killed. */
  alive: boolean
  /** The state that the main thread has announced. */
  main: MigrationState
  guest: 'running' | 'stopping' | 'stopped'
  /** The migration has stopped a running guest: it is started again if it stays here. */
  stoppedRunning: boolean
  /** The guest ran when it was stopped; the package has this flag. */
  ran: boolean
  resumeWhenStopped: boolean
  /** The migration has failed, but the destination may have the guest. */
  unconfirmed: boolean
  recovering: 'no' | 'asked' | 'begun'
  closed: boolean
  /** The user has taken the guest back. */
  taken: boolean
  /** Another process, which has only the data that the first one wrote to disk. */
  isTakenOver: boolean
  /** The process is dead, but its unsent pages are on disk. */
  spilled: boolean
  notices: readonly SourceNotice[]
  handover: HandoverState
  step: SourceStep
  isRecovery: boolean
  phase: SourcePhase
  requests: readonly SourceRequest[]
  way: 'precopy' | 'postcopy'
  shut: '' | '0' | '1'
  /** The page has not been sent. */
  dirty: boolean
  everythingSent: boolean
  connected: boolean
  /** Nothing more can be sent or received. */
  broken: boolean
  inbox: readonly ToSource[]
  /** The connection is cut: the messages in the inbox may arrive up to any point. */
  torn: boolean
}

export interface DestinationEnd {
  alive: boolean
  main: MigrationState
  /** Unless `no`, this end has the guest; `stopped`: its user had stopped it at the source. */
  guest: 'no' | 'running' | 'stopped'
  /** What the main thread is busy with; it takes no message then. */
  load: 'idle' | 'loading' | 'needs page' | 'claimed'
  /** The guest failed to start, and is being stopped again. */
  stopping: boolean
  loads: 'package' | 'devices'
  refused: boolean
  recovering: 'no' | 'asked' | 'begun'
  closed: boolean
  notices: readonly DestinationNotice[]
  claim: ClaimState
  /** The main thread has received a package. */
  hasPackage: boolean
  worker: 'begin' | 'listening' | 'works' | 'refuses' | 'whole' | 'rest' | 'gone'
  isRecovery: boolean
  phase: IncomingPhase
  requests: readonly DestinationRequest[]
  /** Memory is no longer armed, so no thread waits for a page. */
  disarmed: boolean
  received: boolean
  /** Pages of another guest were placed. */
  mixed: boolean
  connected: boolean
  inbox: readonly ToDestination[]
  /** With preempt, the page is in flight on its own channel. */
  urgent: boolean
  torn: boolean
}

export interface State {
  readonly source: Readonly<SourceEnd>
  readonly destination: Readonly<DestinationEnd>
  /** Both ends have the same connection, and it is not cut. */
  readonly joined: boolean
  /** Describes a step that must not happen; empty if there was none. */
  readonly wrong: string
}

export function initialState(guest: 'running' | 'stopped'): State {
  return {
    source: {
      alive: true,
      main: 'none',
      guest,
      stoppedRunning: false,
      ran: false,
      resumeWhenStopped: false,
      unconfirmed: false,
      recovering: 'no',
      closed: false,
      taken: false,
      isTakenOver: false,
      spilled: false,
      notices: [],
      handover: 'none',
      ...freshSourceWorker(false),
    },
    destination: {
      alive: true,
      main: 'none',
      guest: 'no',
      load: 'idle',
      stopping: false,
      loads: 'package',
      refused: false,
      recovering: 'no',
      closed: false,
      notices: [],
      claim: 'none',
      hasPackage: false,
      received: false,
      mixed: false,
      disarmed: false,
      ...freshDestinationWorker(false),
    },
    joined: false,
    wrong: '',
  }
}

export function freshSourceWorker(isRecovery: boolean) {
  return {
    step: 'begin',
    isRecovery,
    phase: isRecovery ? 'paused' : 'none',
    requests: [],
    way: isRecovery ? 'postcopy' : 'precopy',
    shut: '',
    dirty: true,
    everythingSent: false,
    connected: false,
    broken: false,
    inbox: [],
    torn: false,
  } as const satisfies Partial<SourceEnd>
}

export function freshDestinationWorker(isRecovery: boolean) {
  return {
    worker: 'begin',
    isRecovery,
    phase: isRecovery ? 'to-recover' : 'none',
    requests: [],
    connected: false,
    inbox: [],
    urgent: false,
    torn: false,
  } as const satisfies Partial<DestinationEnd>
}

/** Builds the next state: an end is copied when it is first read, and may then be changed. */
export class Draft {
  joined: boolean
  wrong: string
  readonly #from: State
  #source: SourceEnd | undefined
  #destination: DestinationEnd | undefined

  constructor(from: State) {
    this.#from = from
    this.joined = from.joined
    this.wrong = from.wrong
  }

  get source(): SourceEnd {
    return (this.#source ??= { ...this.#from.source })
  }

  get destination(): DestinationEnd {
    return (this.#destination ??= { ...this.#from.destination })
  }

  /** @param intern - returns the one object that represents all equal ones */
  finish(intern: <End extends SourceEnd | DestinationEnd>(end: End) => End): State {
    const { joined, wrong } = this
    return {
      source: this.#source === undefined ? this.#from.source : intern(this.#source),
      destination:
        this.#destination === undefined ? this.#from.destination : intern(this.#destination),
      joined,
      wrong,
    }
  }
}
