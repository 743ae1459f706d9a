/** A condition variable for the event loop: waiters continue after any change. */
export class Signal {
  #waiters: (() => void)[] = []

  /** Wakes all waiters. */
  notify(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const wake of waiters) wake()
  }

  /** Waits for the next {@link notify}, or for `timeoutMs` at most. */
  wait(timeoutMs?: number): Promise<void> {
    return new Promise((resolve) => {
      if (timeoutMs === undefined) {
        this.#waiters.push(resolve)
        return
      }
      const wake = (): void => {
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(() => {
        this.#waiters.splice(this.#waiters.indexOf(wake), 1)
        resolve()
      }, timeoutMs)
      this.#waiters.push(wake)
    })
  }
}

/** Lets the event loop poll sockets and descriptors once. */
export function tick(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}
