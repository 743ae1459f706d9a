/**
 * Coverage-guided fuzzing: an input that runs new code, or gives a new answer, is
 * kept and mutated further.
 */
import type { Coverage } from './coverage.js'
import { mutate } from './mutate.js'
import { Random } from './random.js'
import type { Target } from './target.js'

/** Reading coverage from V8 costs more than many runs, so inputs are tried in batches. */
const BATCH = 48

export interface Found {
  readonly input: Uint8Array
  readonly error: unknown
}

export interface EngineEvents {
  /** Called before a batch is run: if the process dies, one of these inputs is the reason. */
  trying(batch: readonly Uint8Array[]): void
  found(finding: Found): void
}

export class Engine {
  executions = 0
  readonly #target: Target
  readonly #coverage: Coverage
  readonly #events: EngineEvents
  readonly #random: Random
  readonly #corpus: Uint8Array[] = []
  readonly #answers = new Set<string>()
  readonly #findings = new Set<string>()

  constructor(target: Target, coverage: Coverage, seed: number, events: EngineEvents) {
    this.#target = target
    this.#coverage = coverage
    this.#events = events
    this.#random = new Random(seed)
  }

  get corpus(): readonly Uint8Array[] {
    return this.#corpus
  }

  /** Begins with the target's seeds and `inputs`, and keeps all of them. */
  async begin(inputs: readonly Uint8Array[]): Promise<void> {
    const all = [...this.#target.seeds, ...inputs]
    this.#events.trying(all)
    for (const input of all) await this.#run(input)
    this.#coverage.takeNew()
    this.#corpus.push(...all)
  }

  /** Tries a batch of new inputs. */
  async step(): Promise<void> {
    const { tokens = [], maxBytes } = this.#target
    const material = { corpus: this.#corpus, tokens, maxBytes }
    const batch = Array.from({ length: BATCH }, () => mutate(this.#random, material))
    this.#events.trying(batch)
    const kept = new Set<Uint8Array>()
    for (const input of batch) {
      if (await this.#run(input)) kept.add(input)
    }
    const fresh = new Set(this.#coverage.takeNew())
    if (fresh.size > 0) {
      for (const input of batch) {
        await this.#run(input)
        const isFirst = this.#coverage.take().filter((block) => fresh.delete(block)).length > 0
        if (isFirst) kept.add(input)
      }
    }
    this.#corpus.push(...kept)
  }

  /** The smallest inputs that together run every block and give every answer. */
  async minimise(): Promise<Uint8Array[]> {
    const blocks = new Set<string>()
    const answers = new Set<string>()
    const inputs = [...this.#corpus].sort((a, b) => a.length - b.length)
    this.#coverage.take()
    const kept: Uint8Array[] = []
    for (const input of inputs) {
      this.#events.trying([input])
      let gained = 0
      try {
        const answer = await this.#target.run(input)
        if (!answers.has(answer)) gained += answers.add(answer).size
      } catch {
        // A finding, which was reported when it was found.
      }
      for (const block of this.#coverage.take()) {
        if (!blocks.has(block)) gained += blocks.add(block).size
      }
      if (gained > 0) kept.push(input)
    }
    return kept
  }

  /** @returns whether the answer is new */
  async #run(input: Uint8Array): Promise<boolean> {
    this.executions += 1
    let answer: string
    try {
      answer = await this.#target.run(input)
    } catch (error) {
      answer = `finding: ${whereOf(error)}`
      if (!this.#findings.has(answer)) this.#events.found({ input, error })
      this.#findings.add(answer)
    }
    const before = this.#answers.size
    return this.#answers.add(answer).size > before
  }
}

/** Identifies a mistake by its place in the code: its message may depend on the input. */
function whereOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const frames = (error.stack ?? '').split('\n').filter((line) => /^ +at /.test(line))
  return [error.name, ...frames.slice(0, 3)].join(' ')
}
