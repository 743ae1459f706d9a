/** Which blocks of our code have run, counted by V8 itself: nothing is instrumented. */
import { type Profiler, Session } from 'node:inspector'
import { Finding } from './target.js'

export class BlockCoverage {
  readonly #session = new Session()
  readonly #isCounted: (url: string) => boolean
  /** By script and offset: blocks that have ever run. */
  readonly #known = new Set<string>()

  /**
   * Counts what is loaded from now on.
   *
   * @param isCounted - by the URL of a script
   */
  constructor(isCounted: (url: string) => boolean) {
    this.#isCounted = isCounted
    this.#session.connect()
    this.#session.post('Profiler.enable')
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true })
  }

  /** Blocks that have ever run. */
  get size(): number {
    return this.#known.size
  }

  /** The blocks that have run since the last call. Takes some milliseconds. */
  take(): string[] {
    const blocks: string[] = []
    for (const { url, functions } of this.#read()) {
      if (!this.#isCounted(url)) continue
      for (const { ranges } of functions) {
        for (const { startOffset, count } of ranges) {
          if (count > 0) blocks.push(`${url}:${startOffset}`)
        }
      }
    }
    return blocks
  }

  /** The same, but only those that had never run before. */
  takeNew(): string[] {
    const fresh = this.take().filter((block) => !this.#known.has(block))
    for (const block of fresh) this.#known.add(block)
    return fresh
  }

  #read(): Profiler.ScriptCoverage[] {
    let scripts: Profiler.ScriptCoverage[] | undefined
    // A session within the own thread answers before post() returns.
    this.#session.post('Profiler.takePreciseCoverage', (error, answer) => {
      if (error === null) scripts = answer.result
    })
    if (scripts === undefined) throw new Finding('V8 gives no coverage')
    return scripts
  }
}
