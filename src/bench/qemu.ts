/** A VM of a real QEMU that we park and resume, compared with QEMU's own saving and loading. */
import { closeSync, fsyncSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Park, ParkedVm, resume } from '../park/index.js'
import { now } from '../migration/index.js'
import { type Benchmark, type Comparison, MIB, fewer } from './benchmark.js'
import { countingFirmware } from './qemu-guest.js'
import { NO_QEMU, Vm, hasQemu } from './qemu-vm.js'

/** The time until the guest runs, in ms. */
interface Start {
  /** From the call of `resume`, which starts a worker, or from the command to QEMU. */
  readonly fromCallMs: number
  /** From the moment that the worker connects, or that QEMU begins to read. */
  readonly fromConnectionMs: number
}

interface Round {
  readonly parkMs: number
  readonly saveMs: number
  /** The save, until it is on disk. Parking always syncs. */
  readonly savedToDiskMs: number
  readonly resume: Start
  /** From the call until all memory is present. */
  readonly resumeTotalMs: number
  /** QEMU's own load of the saved stream: the guest runs once all memory is present. */
  readonly load: Start
}

async function measure(ramMib: number): Promise<Round> {
  const folder = mkdtempSync(join(tmpdir(), 'postcopy-bench-'))
  const args = ['-m', String(ramMib), ...countingFirmware(folder, ramMib * MIB)]
  try {
    const vm = await Vm.start(folder, args)
    // Long enough for the guest to write every page once.
    await sleep(1000 + ramMib * 2)
    await vm.execute('stop')
    await vm.execute('migrate-set-parameters', { 'max-bandwidth': 2 ** 40 })

    const directory = join(folder, 'vm')
    const park = await Park.listen({ uri: `unix:${join(folder, 'park')}`, directory })
    let from = performance.now()
    await vm.execute('migrate', { uri: park.uri })
    await park.done
    const parkMs = performance.now() - from
    await park.close()

    const file = join(folder, 'saved')
    await vm.execute('cont')
    await vm.execute('stop')
    from = performance.now()
    await vm.execute('migrate', { uri: `exec:cat > ${file}` })
    await vm.until('query-migrate', 'completed')
    const saveMs = performance.now() - from
    syncFile(file)
    const savedToDiskMs = performance.now() - from
    await vm.close()

    // Both are read from the page cache, because they have just been written.
    const { resume, resumeTotalMs } = await measureResume(folder, directory, args)
    const load = await measureLoad(folder, file, args)
    return { parkMs, saveMs, savedToDiskMs, resume, resumeTotalMs, load }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function syncFile(path: string): void {
  const fd = openSync(path, 'r')
  fsyncSync(fd)
  closeSync(fd)
}

async function measureLoad(folder: string, file: string, args: readonly string[]): Promise<Start> {
  await using loader = await Vm.start(folder, [...args, '-incoming', 'defer'])
  await loader.enable('events')
  const from = performance.now()
  await loader.execute('migrate-incoming', { uri: `exec:cat ${file}` })
  const at = (status: string): number | undefined =>
    loader.events.find(({ event, data }) => event === 'MIGRATION' && data?.['status'] === status)
      ?.atMs
  await loader.when('loaded', () => at('completed') !== undefined)
  const end = at('completed') ?? NaN
  return { fromCallMs: end - from, fromConnectionMs: end - (at('active') ?? NaN) }
}

async function measureResume(
  folder: string,
  directory: string,
  args: readonly string[],
): Promise<Pick<Round, 'resume' | 'resumeTotalMs'>> {
  const vm = await Vm.start(folder, [...args, '-incoming', 'defer'])
  const parked = ParkedVm.open(directory)
  try {
    await vm.execute('migrate-set-capabilities', {
      capabilities: [{ capability: 'postcopy-ram', state: true }],
    })
    const uri = `unix:${join(folder, 'resume')}`
    await vm.execute('migrate-incoming', { uri })
    const from = now()
    const source = resume(parked, { uri })
    await source.done
    const { startedAt, stoppedAt, downtimeMs, endedAt } = source.counters
    await source.close()
    const runsAt = stoppedAt + downtimeMs
    return {
      resume: { fromCallMs: runsAt - from, fromConnectionMs: runsAt - startedAt },
      resumeTotalMs: endedAt - from,
    }
  } finally {
    parked.close()
    await vm.close()
  }
}

/**
 * TCG is slow, which does not matter here: the guest does nothing while it is parked or resumed.
 */
export const qemuBenchmark: Benchmark = {
  name: 'qemu',
  question:
    "How long do parking and resuming a QEMU VM take, compared with QEMU's own save and load?",
  run: async ({ rounds: count, quick, progress }) => {
    if (!hasQemu()) return { comparisons: [], skipped: [NO_QEMU] }
    const comparisons: Comparison[] = []
    for (const ramMib of quick ? [256] : [256, 1024]) {
      const rounds: Round[] = []
      for (let round = 0; round < fewer(count); round += 1) {
        rounds.push(await measure(ramMib))
        progress()
      }
      const what = `${ramMib} MiB, all written`
      const rate = (ms: (round: Round) => number): number[] =>
        rounds.map((round) => (ramMib * MIB) / ms(round) / 1000)
      comparisons.push(
        {
          what,
          figure: 'from the call until the guest runs',
          unit: 'ms',
          ours: rounds.map(({ resume }) => resume.fromCallMs),
          rival: { name: "QEMU's load", values: rounds.map(({ load }) => load.fromCallMs) },
        },
        {
          what,
          figure: 'from the connection until the guest runs',
          unit: 'ms',
          ours: rounds.map(({ resume }) => resume.fromConnectionMs),
          rival: { name: "QEMU's load", values: rounds.map(({ load }) => load.fromConnectionMs) },
        },
        {
          what,
          figure: 'from the call until all memory is loaded',
          unit: 'ms',
          ours: rounds.map(({ resumeTotalMs }) => resumeTotalMs),
          rival: { name: "QEMU's load", values: rounds.map(({ load }) => load.fromCallMs) },
        },
        {
          what,
          figure: 'parking',
          unit: 'MB/s',
          ours: rate(({ parkMs }) => parkMs),
          rival: { name: "QEMU's save", values: rate(({ saveMs }) => saveMs) },
        },
        {
          what,
          figure: 'parking',
          unit: 'MB/s',
          ours: rate(({ parkMs }) => parkMs),
          rival: {
            name: "QEMU's save and fsync",
            values: rate(({ savedToDiskMs }) => savedToDiskMs),
          },
          target: { of: 'ratio', sense: 'at least', limit: 1 },
        },
      )
    }
    return { comparisons }
  },
}
