/** How fast a fault can be resolved, and how many per second. Rows 49 and 50. */
import { Madv, Mode, anything, atLeast, experiment, median, must, step, syscall } from '../index.js'
import type { Lab, ResponderOptions, ThreadOptions } from '../index.js'
import { mustRegister, pageOf } from '../serve.js'

const pageBytes = 4096
const faults = 2000

/** Writes to fresh pages, resolved by a native thread or by the writer's own signal handler. */
async function faultLatencies(
  lab: Lab,
  cpu: ThreadOptions,
  handler?: ResponderOptions | 'signal',
): Promise<Float64Array> {
  const memory = lab.map('anon', { pages: faults })
  memory.madvise(Madv.NOHUGEPAGE) // the faults compared with it must be small too
  const options = { ...cpu }
  const source = lab.keep(pageOf(1))
  let stop: (() => void) | undefined
  if (handler === 'signal') {
    const uffd = lab.open('SIGBUS')
    mustRegister(uffd, memory)
    const from = lab.map('anon', { pages: 1 })
    from.set(0, 1)
    options.onFault = { copy: { fd: uffd.fd, source: from.address } }
  } else if (handler !== undefined) {
    const uffd = lab.openWith({ nonblock: handler.waiting !== 'blocking' })
    mustRegister(uffd, memory, Mode.MISSING)
    const responder = lab.responder(uffd.fd, { source, ...handler })
    stop = () => responder.stop()
  }
  const sweep = step.sweep(memory.address, { strideBytes: pageBytes, count: faults, write: true })
  const thread = lab.thread(sweep, options)
  await thread.done(8000)
  stop?.()
  return thread.samples
}

/** Sends a byte to another thread and back: the cost of the scheduler, without a fault. */
async function pipePingPong(lab: Lab): Promise<Float64Array> {
  const turns = 1000
  const [there, back] = [new Int32Array(2), new Int32Array(2)]
  for (const pipe of [there, back]) must(syscall('pipe2', pipe, 0), 'pipe2')
  const byte = new Uint8Array(1)
  const write = (pipe: Int32Array) => step.syscall('write', pipe[1] ?? -1, byte, 1)
  const read = (pipe: Int32Array) => step.syscall('read', pipe[0] ?? -1, byte, 1)
  const repeat = <T>(steps: T[]) => Array.from({ length: turns }, () => steps).flat()
  const echo = lab.thread(repeat([read(there), write(back)]), { cpu: 1 })
  const results = await lab.thread(repeat([write(there), read(back)]), { cpu: 0 }).done(8000)
  await echo.done()
  return Float64Array.from(
    { length: turns },
    (_, turn) => (results[2 * turn]?.nanoseconds ?? 0) + (results[2 * turn + 1]?.nanoseconds ?? 0),
  )
}

export const latencyLadder = experiment({
  id: 'latency-ladder',
  tags: ['latency', 'threads'],
  question: 'How long does a thread wait for its page, by method of waiting in the handler?',
  method:
    `${faults} writes to missing pages each, answered by a COPY: in the writer's own SIGBUS handler, by ` +
    'a thread on its processor, and by one on another; for comparison, plain faults and a pipe between ' +
    'the processors.',
  needs: { features: ['SIGBUS'], cpus: 2 },
  deadlineMs: 60_000,
  expected: {
    values: {
      'plain, SIGBUS handler, one processor, two processors: each slower': true,
      'SIGBUS handler against plain': atLeast(1.5),
      'blocking, one processor, against plain': atLeast(2),
      'blocking, two processors, against one': atLeast(1.5),
      'p50 us': anything('about 1.2, 3.7, 6.0, 6.6, 14.9, 32.5, 51.2, 46.5'),
    },
    source: 'kernel-behaviour section 7: wake-up placement, not the system call, sets the floor',
  },
  async run(lab) {
    const here = { cpu: 0 }
    const samples = {
      'plain fault': await faultLatencies(lab, here),
      'SIGBUS handler': await faultLatencies(lab, here, 'signal'),
      'blocking read, one processor': await faultLatencies(lab, here, {
        waiting: 'blocking',
        cpu: 0,
      }),
      'epoll, one processor': await faultLatencies(lab, here, { waiting: 'epoll', cpu: 0 }),
      'busy read, two processors': await faultLatencies(lab, here, { waiting: 'busy', cpu: 1 }),
      'pipe there and back, two processors': await pipePingPong(lab),
      'blocking read, two processors': await faultLatencies(lab, here, {
        waiting: 'blocking',
        cpu: 1,
      }),
      'poll, two processors': await faultLatencies(lab, here, { waiting: 'poll', cpu: 1 }),
    }
    const p50 = lab.distributions('A missing page, by handler', samples).map((each) => each.p50)
    const [plain = 0, signal = 0, one = 0, , , , two = 0] = p50
    lab.note(`p50 in the order: ${Object.keys(samples).join('; ')}`)
    return {
      'plain, SIGBUS handler, one processor, two processors: each slower':
        plain < signal && signal < one && one < two,
      'SIGBUS handler against plain': signal / plain,
      'blocking, one processor, against plain': one / plain,
      'blocking, two processors, against one': two / one,
      'p50 us': p50.map((ns) => Number((ns / 1000).toPrecision(3))),
    }
  },
})

const each = 1000
const rounds = 3
const crowd = [1, 2, 4, 8]

/** Faults per second of several threads on one processor, served from the other one. */
async function faultRate(lab: Lab, threads: number, handler: ResponderOptions): Promise<number> {
  const uffd = lab.openWith({ nonblock: handler.waiting !== 'blocking' })
  const memory = lab.map('anon', { pages: each * threads })
  mustRegister(uffd, memory)
  const responder = lab.responder(uffd.fd, { source: lab.keep(pageOf(1)), ...handler })
  const start = process.hrtime.bigint()
  const running = Array.from({ length: threads }, (_, index) =>
    lab.thread(
      step.sweep(memory.page(index * each), { strideBytes: pageBytes, count: each, write: true }),
      { cpu: 0 },
    ),
  )
  await Promise.all(running.map((thread) => thread.done(8000)))
  const seconds = Number(process.hrtime.bigint() - start) / 1e9
  responder.stop()
  return (each * threads) / seconds
}

export const faultersScale = experiment({
  id: 'faulters-scale',
  tags: ['latency', 'threads', 'scaling'],
  question: 'Are more pages placed per second if more threads fault?',
  method:
    `${crowd.join(', ')} threads on one processor write to ${each} missing pages each; a busy handler on ` +
    `another reads up to 16 messages at a time. Median of ${rounds} rounds.`,
  needs: { cpus: 2 },
  deadlineMs: 60_000,
  expected: {
    values: {
      'several threads against 1, at best': atLeast(1.3),
      'faults a second': anything('19 thousand for a blocking handler and 1, 198 for 4, 300 for 8'),
    },
    source: 'kernel-behaviour section 7; COPY takes per-VMA locks since 6.9',
  },
  async run(lab) {
    const handler: ResponderOptions = { waiting: 'busy', cpu: 1, batch: 16 }
    // In turn, so that other load on this machine affects every number of threads alike.
    const taken: number[][] = []
    for (let round = 0; round < rounds; round += 1) {
      const ofRound: number[] = []
      for (const threads of crowd) ofRound.push(await faultRate(lab, threads, handler))
      taken.push(ofRound)
    }
    const rates = crowd.map((_, index) => Math.round(median(taken.map((each) => each[index] ?? 0))))
    const ratios = taken.map(([one = Number.NaN, ...more]) => Math.max(...more) / one)
    lab.plot({
      kind: 'curves',
      title: 'Faults a second, against faulting threads',
      xLabel: 'threads',
      yLabel: 'faults a second',
      xLog: true,
      curves: [{ name: 'busy handler, batches of 16', x: crowd, y: rates }],
    })
    return {
      'several threads against 1, at best': median(ratios),
      'faults a second': rates,
    }
  },
})
