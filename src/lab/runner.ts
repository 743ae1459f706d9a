/** Runs experiments one after another, each in its own process, with a deadline. */
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
  /** Why the experiment is not possible or broken. */
  reason?: string
  findings: Finding[]
  /** The source of the expectation. */
  source: string
  notes: string[]
  plots: Plot[]
  durationMs: number
}

export interface RunOptions {
  /** Features to treat as absent. */
  hide?: readonly FeatureName[]
  /** Called before each experiment; `onRow` is called after it. */
  onBegin?: (experiment: Described, index: number, total: number) => void
  onRow?: (row: Row) => void
  /**
   * Checked after each experiment. A signal that undoes the changes ends the
   * experiment's process first.
   */
  signal?: AbortSignal
}

/**
 * Runs these experiments in order. Returns a row for each.
 *
 * @throws the signal's reason, instead of a row for the interrupted experiment
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
    chmodSync(scratch, 0o755) // for a child of another user
    const { module, id, deadlineMs } = experiment
    const setting = { scratch, changes: experiment.changes, ...settingOf(readHost(hide)) }
    // Ends the process before the changes that it uses are undone.
    const onBegun = (end: () => void): void => changes.defer(end)
    return toOutcome(await runChild({ type: 'run', module, id, setting }, deadlineMs, onBegun))
  } catch (error) {
    // Another process may have taken huge pages from the pool after the check.
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

/** How a child ended, and its answer before that. */
export interface ChildEnd {
  answer: Answer | undefined
  /** The end in words; for a child that sent no answer. */
  how: string
}

/** Longest time to load the modules: on a busy host it takes many times a second. */
const START_MS = 60_000

/**
 * Starts the process of an experiment and waits for its end, at most until the deadline. The
 * deadline of an experiment counts from when it is run, not from the start of the process.
 *
 * @param onBegun - called with a function that ends the process, and does nothing after its end
 */
export async function runChild(
  order: Order,
  deadlineMs: number,
  onBegun?: (end: () => void) => void,
): Promise<ChildEnd> {
  const path = fileURLToPath(compiledModule('lab/child.js'))
  // In a process group of its own, so that the processes it starts end with it.
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
  // The pipe may still hold the last lines.
  await new Promise((resolve) => setImmediate(resolve))
  await drained(child)
  const ended = signal === null ? `ended with status ${status}` : `died by ${signal}`
  const tail = said.output.trim().slice(-2000)
  const how = `${overdue ?? `${ended} before it reported a result`}${tail === '' ? '' : `: ${tail}`}`
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
    // A process that has left the group may hold the pipe open.
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
    // the group is empty
  }
}

/** Waits, at most a second, until a killed process no longer runs code. */
function awaitEnd(pid: number | undefined): void {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const states = threadStates(pid)
    if (states.every((state) => state === 'Z' || state === 'X')) return
    sleepMs(10)
  }
}

/** States of a process' threads: they tell a fault (S) from an event (D) from a loop (R). */
function describeThreads(pid: number | undefined): string {
  const [main, ...others] = threadStates(pid)
  return main === undefined ? 'gone' : `main thread ${main}, others ${others.join('') || 'none'}`
}

/**
 * One letter per thread, `X` for one that has ended; empty for a process that no longer exists.
 */
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
