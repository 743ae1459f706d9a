/** Messages between a {@link LinkProxy} and its thread. */

/** The state of the link between the two ends. */
export interface LinkState {
  /** The target of connections: a port on `host`, or a path. */
  target: { readonly host: string; readonly port: number } | { readonly path: string }
  /**
   * How many bytes of the connecting side each further connection lets through before it is cut.
   * Each connection has a count of its own.
   */
  cutAfterBytes: number
  /** Delay of every byte in milliseconds, each way. */
  latencyMs: number
  /** Nothing passes in either direction, and nothing is closed. */
  isSilent: boolean
  /** The target's bytes are read and dropped. */
  dropsAnswers: boolean | 'after-first'
}

/** To the thread, which answers with the same `id` when it is done. */
export interface LinkRequest {
  readonly id: number
  readonly change: Partial<LinkState>
  /** Reset every open connection. */
  readonly cut: boolean
}

export type LinkNotice =
  | { readonly type: 'listening'; readonly port: number }
  | { readonly type: 'done'; readonly id: number }

export interface LinkWorkerData {
  readonly host: string
  readonly state: LinkState
  /** One Int32: the number of connections that were cut. */
  readonly cuts: SharedArrayBuffer
}
