/** Runs experiments one after another, each in a process of its own with a deadline. */
import { compiledModule } from '../kernel/internal.js'
import { PostcopyError } from '../errors.js'
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { chmodSync, readFileSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Host, HostChanges, missingFor, readHost, sleepMs } from '../host/index.js'
import type { Described } from './describe.js'
import type { FeatureName } from '../kernel/index.js'
import type { Plot } from './plots.js'
import { BEGUN, type Answer, type Order } from './protocol.js'
import type { Finding, Verdict } from './verdict.js'

/** One line of the table. */
export interface Row {
  id: string
  tags: readonly string[]
  question: string
  method: string
  mirrors: readonly string[]
  verdict: Verdict
  /** Why it is not possible or broken. */
  reason?: string
  findings: Finding[]
  /** Where the expectation comes from. */
  source: string
  notes: string[]
  plots: Plot[]
  durationMs: number
}

export interface RunOptions {
  /** Features to treat as absent. */
  hide?: readonly FeatureName[]
  /** Called when an experiment begins and when it has ended. */
  onBegin?: (experiment: Described, index: number, total: number) => void
  onRow?: (row: Row) => void
  /** Read after each experiment. A signal that undoes what one has changed ends its process first. */
  signal?: AbortSignal
}

/**
 * Runs these, in order. Gives a row for each.
 *
 * @throws the signal's reason, instead of a row for what was interrupted
 */
export async function runExperiments(
  experiments: readonly Described[],
  options: RunOptions = {},
): Promise<Row[]> {
  const rows: Row[] = []
  for (const [index, experiment] of experiments.entries()) {
    options.onBegin?.(experiment, index, experiments.length)
    const row = await runOne(experiment, options.hide ?? [])
    options.signal?.throwIfAborted()
    options.onRow?.(row)
    rows.push(row)
  }
  return rows
}

type Outcome = Pick<Row, 'verdict'> & Partial<Row>

async function runOne(experiment: Described, hide: readonly FeatureName[]): Promise<Row> {
  const { id, tags, question, method, mirrors } = experiment
  const started = performance.now()
  const outcome = await outcomeOf(experiment, hide)
  const durationMs = Math.round(performance.now() - started)
  const empty = { findings: [], source: '', notes: [], plots: [] }
  return { id, tags, question, method, mirrors, ...empty, ...outcome, durationMs }
}

async function outcomeOf(experiment: Described, hide: readonly FeatureName[]): Promise<Outcome> {
  const { needs } = experiment
  const host = readHost(hide)
  const missing = missingFor(needs, host)
  if (missing !== undefined) return { verdict: 'not possible here', reason: missing.reason }
  const changes = new HostChanges()
  try {
    if (needs.hugePages !== undefined) changes.lendHugePages(needs.hugePages)
    if (needs.optionalHugePages !== undefined && host.root) {
      changes.lendHugePages(needs.optionalHugePages)
    }
    for (const path of experiment.changes) changes.preserve(path)
    const scratch = changes.folder()
    chmodSync(scratch, 0o755) // another user's child may have to get in
    const { module, id, deadlineMs } = experiment
    const setting = { scratch, changes: experiment.changes, ...settingOf(readHost(hide)) }
    // Its process ends before anything is taken away under it.
    const onBegun = (end: () => void): void => changes.defer(end)
    return toOutcome(await runChild({ type: 'run', module, id, setting }, deadlineMs, onBegun))
  } catch (error) {
    // Somebody else may have taken from the pool since it was looked at.
    if (error instanceof PostcopyError && error.code === 'ERR_HUGE_PAGES') {
      return { verdict: 'not possible here', reason: error.message }
    }
    return { verdict: 'broken', reason: String(error) }
  } finally {
    changes.undo()
  }
}

function settingOf({ fingerprint, root, features, kernelFaults, hugePagesFree }: Host) {
  return { kernel: fingerprint.kernel, root, features: [...features], kernelFaults, hugePagesFree }
}

function toOutcome(ended: ChildEnd): Outcome {
  const { answer } = ended
  switch (answer?.type) {
    case 'result': {
      const { verdict, findings, source, record } = answer
      const reason = verdict === 'not possible here' ? { reason: unavailableReasons(findings) } : {}
      return { verdict, findings, source, notes: record.notes, plots: record.plots, ...reason }
    }
    case 'not possible':
      return { verdict: 'not possible here', reason: answer.reason, notes: answer.record.notes }
    case 'failed':
      return { verdict: 'broken', reason: `threw ${answer.error}` }
    case 'described':
    case undefined:
      return { verdict: 'broken', reason: ended.how }
  }
}

function unavailableReasons(findings: readonly Finding[]): string {
  return [...new Set(findings.map(({ unavailable }) => unavailable ?? ''))].join('; ')
}

/** How a child ended, and what it said before. */
export interface ChildEnd {
  answer: Answer | undefined
  /** In words; for a child that gave no answer. */
  how: string
}

/** How long a process may take until its modules are loaded: on a busy host, many times a second. */
const START_MS = 60_000

/**
 * Starts the process of an experiment and waits for its end, at most until the deadline. That of an
 * experiment counts from when it is run.
 *
 * @param onBegun - called with what ends the process; that does nothing after its end
 */
export async function runChild(
  order: Order,
  deadlineMs: number,
  onBegun?: (end: () => void) => void,
): Promise<ChildEnd> {
  const path = fileURLToPath(compiledModule('lab/child.js'))
  // A process group of its own: what it starts ends with it.
  const child = spawn(process.execPath, ['--no-warnings', path, JSON.stringify(order)], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    detached: true,
  })
  onBegun?.(() => {
    if (child.exitCode !== null || child.signalCode !== null) return
    killGroup(child.pid)
    awaitEnd(child.pid)
  })
  const said = { answers: '', output: '' }
  collect(child, 1, (text) => (said.output += text))
  collect(child, 2, (text) => (said.output += text))
  let overdue: string | undefined
  const endAfter = (ms: number, what: string): NodeJS.Timeout =>
    setTimeout(() => {
      overdue = `still ${what} after ${ms} ms (${describeThreads(child.pid)})`
      killGroup(child.pid)
    }, ms)
  const isRun = order.type === 'run'
  let timer = isRun ? endAfter(START_MS, 'starting') : endAfter(deadlineMs, 'running')
  collect(child, 3, (text) => {
    const hadBegun = said.answers.includes(BEGUN)
    said.answers += text
    if (hadBegun || !said.answers.includes(BEGUN)) return
    clearTimeout(timer)
    timer = endAfter(deadlineMs, 'running')
  })
  const [status, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
    child.once('error', (error) => {
      overdue = String(error)
      resolve([null, null])
    })
    child.once('exit', (...end) => resolve(end))
  })
  clearTimeout(timer)
  killGroup(child.pid)
  // The pipe may still hold what was written last.
  await new Promise((resolve) => setImmediate(resolve))
  await drained(child)
  const ended = signal === null ? `ended with status ${status}` : `died by ${signal}`
  const tail = said.output.trim().slice(-2000)
  const how = `${overdue ?? `${ended} before it gave a result`}${tail === '' ? '' : `: ${tail}`}`
  return { answer: parseAnswer(said.answers), how }
}

function collect(child: ChildProcess, index: number, add: (text: string) => void): void {
  const stream = child.stdio[index]
  if (stream === null || stream === undefined || !('setEncoding' in stream)) return
  stream.setEncoding('utf8')
  stream.on('data', add)
}

async function drained(child: ChildProcess): Promise<void> {
  const stream = child.stdio[3]
  if (stream === null || stream === undefined || stream.destroyed) return
  if ('readableEnded' in stream && stream.readableEnded) return
  await new Promise<void>((resolve) => {
    stream.once('close', () => resolve())
    // A process that left the group may hold the pipe open.
    setTimeout(resolve, 500).unref()
  })
}

function parseAnswer(text: string): Answer | undefined {
  const [line, rest] = text.replace(BEGUN, '').split('\n')
  return line === undefined || rest === undefined ? undefined : (JSON.parse(line) as Answer)
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // nobody is left
  }
}

/** Waits, at most a second, until a process that was killed runs no code any more. */
function awaitEnd(pid: number | undefined): void {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const states = threadStates(pid)
    if (states.every((state) => state === 'Z' || state === 'X')) return
    sleepMs(10)
  }
}

/** States of a process' threads, which tell a fault (S) from an event (D) from a loop (R). */
function describeThreads(pid: number | undefined): string {
  const [main, ...others] = threadStates(pid)
  return main === undefined ? 'gone' : `main thread ${main}, others ${others.join('') || 'none'}`
}

/** One letter for each thread, `X` for one that has ended; none for a process that is gone. */
function threadStates(pid: number | undefined): string[] {
  const folder = `/proc/${pid ?? 0}/task`
  try {
    return readdirSync(folder).map((thread) => threadState(`${folder}/${thread}/stat`))
  } catch {
    return []
  }
}

function threadState(path: string): string {
  try {
    const stat = readFileSync(path, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2)[0] ?? '?'
  } catch {
    return 'X'
  }
}
