/** What a command has set up, and how each thing is undone: in reverse order, however the command ends. */
export class Scope {
  readonly #undo: (() => unknown)[] = []
  readonly #onError: (error: unknown) => void
  #isClosed = false

  /** @param onError - told what could not be undone; the others are undone all the same */
  constructor(onError: (error: unknown) => void) {
    this.#onError = onError
  }

  /** What is set up too late, while the command is ending, is undone at once. */
  defer(undo: () => unknown): void {
    if (this.#isClosed) void this.#run(undo)
    else this.#undo.push(undo)
  }

  /** @returns what was made; `close` is deferred */
  async use<T>(made: T | Promise<T>, close: (made: T) => unknown): Promise<T> {
    const resource = await made
    this.defer(() => close(resource))
    return resource
  }

  /** May be called twice. */
  async close(): Promise<void> {
    this.#isClosed = true
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
