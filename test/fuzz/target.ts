/** What can be fuzzed: code that takes bytes which somebody else has made. */
export interface Target {
  /** Good inputs to begin with. */
  readonly seeds: readonly Uint8Array[]
  /** Pieces that inputs are made of. */
  readonly tokens?: readonly Uint8Array[]
  /** Inputs are not made longer. */
  readonly maxBytes: number
  /**
   * Takes an input. What it throws is a finding.
   *
   * @returns what became of it, in few words: an answer that was not heard before makes an input
   *   as interesting as code that was not run before
   */
  run(input: Uint8Array): string
}

/** The one way to say that something was found. */
export class Finding extends Error {
  override readonly name = 'Finding'
}

/** @throws Finding */
export function demand(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Finding(what)
}
