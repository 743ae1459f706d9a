/** The process that runs one experiment. If it crashes or hangs, the runner reports a row. */
import { readFileSync, readdirSync, writeSync } from 'node:fs'
import { describeExperiment } from './describe.js'
import { experimentsIn } from './experiment.js'
import { Lab, NotPossible } from './lab.js'
import { ANSWER_FD, BEGUN } from './protocol.js'
import type { Answer, Order } from './protocol.js'
import { registerHooks } from './module-hooks.js'
import { syscall } from '../host/index.js'
import { compare, expectationFor, judge } from './verdict.js'

const OWN_EXPERIMENTS = new URL('experiments/', import.meta.url).href

function answer(message: Answer): void {
  send(`${JSON.stringify(message)}\n`)
}

function send(line: string): void {
  const bytes = Buffer.from(line)
  for (let at = 0; at < bytes.length;) at += writeSync(ANSWER_FD, bytes, at)
}

async function obey(order: Order): Promise<Answer> {
  const exports = (await import(order.module)) as Record<string, unknown>
  const experiments = experimentsIn(exports)
  if (order.type === 'describe') {
    const described = experiments.map((each) => describeExperiment(each, order.module))
    return { type: 'described', experiments: described }
  }
  const experiment = experiments.find(({ id }) => id === order.id)
  if (experiment === undefined) throw new Error(`${order.module} has no experiment "${order.id}"`)
  const before = threadCount()
  const lab = new Lab(order.setting)
  const { record } = lab
  send(BEGUN)
  try {
    const seen = await experiment.run(lab)
    const left = threadCount() - before
    if (left > 0) record.notes.push(`it ended with ${left} threads still running`)
    const expectation = expectationFor(experiment.expected, lab.kernel)
    const findings = compare(expectation, seen, record.unavailable)
    const source = expectation?.source ?? 'no expected value for this kernel'
    return { type: 'result', verdict: judge(findings), findings, source, record }
  } catch (error) {
    if (error instanceof NotPossible) {
      return { type: 'not possible', reason: error.message, record }
    }
    throw error
  }
}

/** Counts this process' threads, without the lab's own: those may stay parked for good. */
function threadCount(): number {
  const names = readdirSync('/proc/self/task').map((id) => commandOf(id))
  return names.filter((name) => !name.startsWith('lab')).length
}

function commandOf(threadId: string): string {
  try {
    return readFileSync(`/proc/self/task/${threadId}/comm`, 'utf8')
  } catch {
    return 'lab' // it has ended since the folder was read
  }
}

// PR_SET_PDEATHSIG with SIGKILL: this process ends when the lab ends, even if the lab is killed.
syscall('prctl', 1, 9)
try {
  const order = JSON.parse(process.argv[2] ?? '') as Order
  // Only a user's file needs the hooks, whose thread takes long to start.
  if (!order.module.startsWith(OWN_EXPERIMENTS)) registerHooks()
  answer(await obey(order))
} catch (error) {
  answer({ type: 'failed', error: String(error instanceof Error ? error.stack : error) })
}
// Not process.exit(): it joins workers, and one that sleeps in a fault never ends.
syscall('exit_group', 0)
