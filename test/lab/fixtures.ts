/** Experiments that end in every possible way. */
import { writeFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { Mode, between, experiment, peek, syscall } from '../../src/lab/index.js'
import type { ExperimentDefinition } from '../../src/lab/index.js'
import { copyPartial } from '../../src/lab/experiments/03-fill.js'

function fixture(id: string, more: Partial<ExperimentDefinition>) {
  return experiment({
    id,
    tags: ['fixture'],
    question: 'Does the lab cope?',
    method: id,
    needs: { userfaultfd: false },
    expected: { values: { answer: 42 }, source: 'test/lab/fixtures.ts' },
    run: () => ({ answer: 42 }),
    ...more,
  })
}

export const agrees = fixture('agrees', {})
export const differs = fixture('differs', { run: () => ({ answer: 41 }) })
export const forgets = fixture('forgets', { run: () => ({}) })
export const throws = fixture('throws', {
  run: () => {
    throw new Error('no such luck')
  },
})
export const exits = fixture('exits', { run: () => process.exit(7) })
export const hangs = fixture('hangs', {
  deadlineMs: 700,
  run: () => new Promise(() => setInterval(() => undefined, 1000)),
})
export const loops = fixture('loops', {
  deadlineMs: 700,
  run: () => {
    for (;;) syscall('sched_yield')
  },
})
/** Parks the only JavaScript thread on a page that is never placed. */
export const parks = fixture('parks', {
  deadlineMs: 700,
  needs: {},
  run: (lab) => {
    const uffd = lab.open()
    const memory = lab.map('anon')
    uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
    return { answer: memory.byte(0) }
  },
})
export const busError = fixture('bus-error', {
  needs: {},
  run: (lab) => {
    const uffd = lab.open('SIGBUS')
    const memory = lab.map('anon')
    uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
    return { answer: memory.byte(0) }
  },
})
export const segmentationFault = fixture('segmentation-fault', {
  run: () => ({ answer: peek(4096)[0] ?? 0 }),
})
export const isKilled = fixture('is-killed', {
  run: () => ({ answer: syscall('kill', process.pid, 9) }),
})
export const gives = fixture('gives-up', { run: (lab) => lab.notPossible('the moon is not full') })
export const partly = fixture('partly', {
  expected: { values: { answer: 42, other: 1 }, source: 'here' },
  run: (lab) => {
    lab.unavailable('other', 'not observed')
    return { answer: 42 }
  },
})
export const leaksThreads = fixture('leaks-threads', {
  run: () => {
    new Worker('setInterval(() => {}, 1000)', { eval: true })
    return { answer: 42 }
  },
})
export const needsTooMuch = fixture('needs-too-much', { needs: { memoryMiB: 2 ** 40 } })
export const needsTheFuture = fixture('needs-the-future', { needs: { minimumKernel: '99.1' } })
export const needsMove = fixture('needs-move', { needs: { features: ['MOVE'] } })
export const ofOtherKernels = fixture('of-other-kernels', {
  expected: [
    { before: '4.0', values: { answer: 1 }, source: 'old' },
    { since: '4.0', values: { answer: between(40, 44) }, source: 'new' },
  ],
})

const setting = '/proc/sys/vm/unprivileged_userfaultfd'

/** Changes a setting, a mount and a control group, and kills itself without restoring them. */
export const diesUntidy = fixture('dies-untidy', {
  needs: { root: true, userfaultfd: false },
  changes: [setting],
  run: (lab) => {
    lab.set(setting, lab.readFile(setting) === '1' ? 0 : 1)
    lab.command('mkdir', `${lab.scratch}/mounted`)
    lab.command('mount', '-t', 'tmpfs', 'none', `${lab.scratch}/mounted`)
    const group = lab.memoryGroup(2 ** 30)
    writeFileSync(group.procsPath, '0')
    return { answer: syscall('kill', process.pid, 9) }
  },
})
export const undeclared = fixture('undeclared', {
  run: (lab) => {
    lab.set(setting, 1)
    return { answer: 42 }
  },
})

/** An experiment of the catalogue whose expectation is wrong on purpose. */
export const wrongExpectation = experiment({
  ...copyPartial,
  id: 'copy-partial-wrong',
  expected: { values: { 'run of 4': ['EAGAIN', 4096] }, source: 'wrong on purpose' },
})

export const plots = fixture('plots', {
  run: (lab) => {
    const samples = Float64Array.from({ length: 2000 }, (_, index) => 1000 + index)
    lab.distributions('Latency of nothing', { first: samples, second: samples })
    lab.plot({
      kind: 'curves',
      title: 'Cost of nothing',
      xLabel: 'run',
      yLabel: 'ns',
      curves: [{ name: 'nothing', x: [1, 16, 256], y: [3, 2, 1] }],
    })
    lab.plot({ kind: 'bars', title: 'Bars', yLabel: 'ns', bars: [{ name: 'a', value: 5 }] })
    return { answer: 42 }
  },
})
