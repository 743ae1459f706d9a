/** Fuzzes one target in a process of its own, which the target may crash or hang. */
import { writeFileSync } from 'node:fs'
import { BlockCoverage } from './coverage.js'
import { readCorpus, writeCorpus } from './corpus.js'
import { Engine } from './engine.js'
import type { Target } from './target.js'

/** The settings of this process, passed as one JSON argument. */
export interface Job {
  readonly target: string
  readonly seconds: number
  readonly seed: number
  /** The file with the inputs that are being tried. */
  readonly tryingFile: string
  /** Whether to write the corpus back, minimised. */
  readonly isKept: boolean
  /** Module that exports `targets`. */
  readonly module: string
}

export interface Progress {
  readonly executions: number
  readonly blocks: number
  readonly corpus: number
}

/** A message of this process. */
export type Message =
  | { readonly type: 'progress'; readonly progress: Progress }
  | { readonly type: 'found'; readonly inputHex: string; readonly text: string }

const REPORT_MS = 500

let reportAt = REPORT_MS

const job = JSON.parse(process.argv[2] ?? '') as Job

function say(message: Message): void {
  process.send?.(message)
}

// The coverage counters must run before the code to be fuzzed is loaded.
const ours = new URL('../../src/', import.meta.url).href
const own = new URL(job.module).href
const coverage = new BlockCoverage((url) => url.startsWith(ours) || url === own)
const { targets } = (await import(job.module)) as { targets: Record<string, Target> }
const target = targets[job.target]
if (target === undefined) throw new RangeError(`no target ${job.target}`)

const engine = new Engine(target, coverage, job.seed, {
  trying: (batch) => {
    writeFileSync(
      job.tryingFile,
      batch.map((input) => `${Buffer.from(input).toString('hex')}\n`).join(''),
    )
    if (performance.now() >= reportAt) report()
  },
  found: ({ input, error }) => {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    say({ type: 'found', inputHex: Buffer.from(input).toString('hex'), text })
  },
})

function report(): void {
  reportAt = performance.now() + REPORT_MS
  const { executions, corpus } = engine
  say({
    type: 'progress',
    progress: { executions, blocks: coverage.size, corpus: corpus.length },
  })
}

const end = performance.now() + job.seconds * 1000
await engine.begin(readCorpus(job.target))
while (performance.now() < end) {
  await engine.step()
  // Watches and timers of closed objects end in the event loop.
  await new Promise((resolve) => setImmediate(resolve))
}
report()
if (job.isKept) writeCorpus(job.target, await engine.minimise())
process.disconnect()
