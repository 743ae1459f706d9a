/** What can be fuzzed: code that processes untrusted bytes. */
export interface Target {
  /** Valid inputs to begin with. */
  readonly seeds: readonly Uint8Array[]
  /** Pieces to build inputs from. */
  readonly tokens?: readonly Uint8Array[]
  /** Maximum length of an input. */
  readonly maxBytes: number
  /**
   * Processes an input. Anything it throws is a finding.
   *
   * @returns the result in a few words: a new answer makes an input as interesting
   *   as code that has
   *   not run before
   */
  run(input: Uint8Array): string | Promise<string>
}

/** Thrown for a violated demand. */
export class Finding extends Error {
  override readonly name = 'Finding'
}

/** @throws Finding */
export function demand(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Finding(what)
}
