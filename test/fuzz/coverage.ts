/** Which blocks of our code have run. V8 counts them; the code is not instrumented. */
import { type Profiler, Session } from 'node:inspector'
import { Finding } from './target.js'

export interface Coverage {
  /** The blocks that have run since the last call. */
  take(): string[]
  /** The same, but only those that had never run before. */
  takeNew(): string[]
}

export class BlockCoverage implements Coverage {
  readonly #session = new Session()
  readonly #isCounted: (url: string) => boolean
  /** Blocks that have ever run, by script, function and offset. */
  readonly #known = new Set<string>()
  /** Where blocks begin, by script and function. */
  readonly #starts = new Map<string, Set<number>>()

  /**
   * Counts all code that is loaded from now on.
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

  /** Takes some milliseconds. */
  take(): string[] {
    const blocks: string[] = []
    for (const { url, functions } of this.#read()) {
      if (!this.#isCounted(url)) continue
      for (const { ranges } of functions) {
        const [whole] = ranges
        if (whole === undefined || whole.count === 0) continue
        const name = `${url}:${whole.startOffset}`
        for (const start of this.#startsOf(name, ranges)) {
          if (countAt(start, ranges) > 0) blocks.push(`${name}:${start}`)
        }
      }
    }
    return blocks
  }

  /**
   * V8 reports a block only while its count differs from that of the code around it. So the start
   * of every block that was ever reported is remembered.
   */
  #startsOf(name: string, ranges: readonly Profiler.CoverageRange[]): Set<number> {
    const starts = this.#starts.get(name) ?? new Set()
    this.#starts.set(name, starts)
    for (const { startOffset } of ranges) starts.add(startOffset)
    return starts
  }

  takeNew(): string[] {
    const fresh = this.take().filter((block) => !this.#known.has(block))
    for (const block of fresh) this.#known.add(block)
    return fresh
  }

  #read(): Profiler.ScriptCoverage[] {
    let scripts: Profiler.ScriptCoverage[] | undefined
    // A session with the same thread answers before post() returns.
    this.#session.post('Profiler.takePreciseCoverage', (error, answer) => {
      if (error === null) scripts = answer.result
    })
    if (scripts === undefined) throw new Finding('V8 gives no coverage')
    return scripts
  }
}

/** The count of the innermost range; a range follows those that contain it. */
function countAt(offset: number, ranges: readonly Profiler.CoverageRange[]): number {
  const innermost = ranges.findLast(
    ({ startOffset, endOffset }) => startOffset <= offset && offset < endOffset,
  )
  return innermost?.count ?? 0
}
