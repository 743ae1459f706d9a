/** What a {@link LinkProxy} and its thread say to each other. */

/** What stands between the two ends. */
export interface LinkState {
  /** Where connections go: a port on `host`, or a path. */
  target: { readonly host: string; readonly port: number } | { readonly path: string }
  /**
   * Bytes of the side that connects which each further connection lets through; then it is cut.
   * Each connection counts for itself.
   */
  cutAfterBytes: number
  /** Milliseconds that every byte takes, each way. */
  latencyMs: number
  /** Nothing goes either way, and nothing is closed. */
  isSilent: boolean
  /** What the target answers is read and dropped. */
  dropsAnswers: boolean
}

/** To the thread; each is answered by its `id` when it is done. */
export interface LinkRequest {
  readonly id: number
  readonly change: Partial<LinkState>
  /** Reset every connection that is there. */
  readonly cut: boolean
}

export type LinkNotice =
  | { readonly type: 'listening'; readonly port: number }
  | { readonly type: 'done'; readonly id: number }

export interface LinkWorkerData {
  readonly host: string
  readonly state: LinkState
  /** One Int32: connections that were cut. */
  readonly cuts: SharedArrayBuffer
}
