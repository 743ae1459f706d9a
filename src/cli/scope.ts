/** A signal has ended the command before it had set up everything. */
export class ScopeClosed extends Error {
  constructor() {
    super('the command has ended')
  }
}

/**
 * What a command has set up, and how to undo each part: in reverse order, however the command ends.
 * A command that was ended continues until it next uses its scope, which throws.
 */
export class Scope {
  readonly #undo: (() => unknown)[] = []
  readonly #onError: (error: unknown) => void
  readonly #closing = new AbortController()

  /** @param onError - called with each error of an undo; the others still run */
  constructor(onError: (error: unknown) => void) {
    this.#onError = onError
  }

  /** @throws ScopeClosed while the command is ending; {@link close} then undoes this, too */
  defer(undo: () => unknown): void {
    this.#undo.push(undo)
    this.throwIfClosed()
  }

  /**
   * @returns the resource; `close` is deferred, and waits for a resource that is not ready yet
   * @throws ScopeClosed while the command is ending
   */
  async use<T>(made: T | Promise<T>, close: (made: T) => unknown): Promise<T> {
    const making = Promise.resolve(made)
    // If it could not be made, the caller gets the error, and there is nothing to undo.
    this.defer(() => making.then(close, () => undefined))
    const resource = await making
    this.throwIfClosed()
    return resource
  }

  /** Aborted with {@link ScopeClosed} when the command is ending. */
  get signal(): AbortSignal {
    return this.#closing.signal
  }

  /** @throws ScopeClosed while the command is ending */
  throwIfClosed(): void {
    this.signal.throwIfAborted()
  }

  /** Call it again for what the command has set up since then. */
  async close(): Promise<void> {
    this.#closing.abort(new ScopeClosed())
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) {
      await this.#run(undo)
    }
  }

  async #run(undo: () => unknown): Promise<void> {
    try {
      await undo()
    } catch (error) {
      this.#onError(error)
    }
  }
}
