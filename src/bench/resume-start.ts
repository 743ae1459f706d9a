/** The command `resume` from the start of its process until the guest runs. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { bundledEntry } from '../kernel/internal.js'
import { Park } from '../park/index.js'
import { type Benchmark, type Comparison, MIB } from './benchmark.js'
import { countingFirmware } from './qemu-guest.js'
import { NO_QEMU, Vm, hasQemu } from './qemu-vm.js'

const MAIN = fileURLToPath(bundledEntry('cli/main'))

interface Round {
  readonly resumeMs: number
  /** Of `node -e 0`. */
  readonly nodeMs: number
  readonly loadMs: number
}

/** A VM that is parked and, by QEMU itself, saved. */
class SavedVm {
  readonly #folder = mkdtempSync(join(tmpdir(), 'postcopy-bench-'))
  readonly #args: readonly string[]
  readonly #directory = join(this.#folder, 'vm')
  readonly #file = join(this.#folder, 'saved')
  readonly #ramMib: number

  constructor(ramMib: number) {
    this.#ramMib = ramMib
    this.#args = ['-m', String(ramMib), ...countingFirmware(this.#folder, ramMib * MIB)]
  }

  async make(): Promise<void> {
    await using vm = await Vm.start(this.#folder, this.#args)
    // Long enough for the guest to write every page once.
    await sleep(1000 + this.#ramMib * 2)
    await vm.execute('stop')
    await vm.execute('migrate-set-parameters', { 'max-bandwidth': 2 ** 40 })
    const park = await Park.listen({
      uri: `unix:${join(this.#folder, 'park')}`,
      directory: this.#directory,
    })
    await vm.execute('migrate', { uri: park.uri })
    await park.done
    await park.close()
    await vm.execute('cont')
    // Saved while it runs, so that it runs when it is loaded.
    await vm.execute('migrate', { uri: `exec:cat > ${this.#file}` })
    await vm.until('query-migrate', 'completed')
  }

  /** Starts the command, and ends it when the guest runs. */
  async resume(): Promise<number> {
    await using vm = await this.#incoming()
    await vm.enable('postcopy-ram')
    const uri = `unix:${join(this.#folder, 'resume')}`
    await vm.execute('migrate-incoming', { uri })
    const from = performance.now()
    const command = spawn(
      process.execPath,
      [MAIN, 'resume', '--no-working-set', this.#directory, uri],
      { stdio: 'ignore' },
    )
    const ended = once(command, 'exit')
    const runsAt = await runs(vm)
    // Before the source, whose end it would report.
    await vm.close()
    command.kill('SIGKILL')
    await ended
    return runsAt - from
  }

  async load(): Promise<number> {
    await using vm = await this.#incoming()
    const from = performance.now()
    await vm.execute('migrate-incoming', { uri: `exec:cat ${this.#file}` })
    return (await runs(vm)) - from
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #incoming(): Promise<Vm> {
    return Vm.start(this.#folder, [...this.#args, '-incoming', 'defer'])
  }
}

/** Waits until the guest runs. @returns when */
async function runs(vm: Vm): Promise<number> {
  const event = () => vm.events.find((candidate) => candidate.event === 'RESUME')
  await vm.when('the guest runs', () => event() !== undefined)
  return event()?.atMs ?? NaN
}

async function bareNode(): Promise<number> {
  const from = performance.now()
  await once(spawn(process.execPath, ['-e', '0'], { stdio: 'ignore' }), 'exit')
  return performance.now() - from
}

export const resumeStartBenchmark: Benchmark = {
  name: 'resume-start',
  question: 'How long after the start of the command postcopy resume does the guest run?',
  run: async ({ rounds: count, quick, progress }) => {
    if (!hasQemu()) return { comparisons: [], skipped: [NO_QEMU] }
    const comparisons: Comparison[] = []
    for (const ramMib of quick ? [256] : [1024, 8192]) {
      const saved = new SavedVm(ramMib)
      const rounds: Round[] = []
      try {
        await saved.make()
        for (let round = 0; round <= count; round += 1) {
          const nodeMs = await bareNode()
          const resumeMs = await saved.resume()
          const loadMs = await saved.load()
          // The first round reads the files into the page cache.
          if (round > 0) rounds.push({ nodeMs, resumeMs, loadMs })
          progress()
        }
      } finally {
        saved.remove()
      }
      const what = `${ramMib} MiB, all written`
      const ours = rounds.map(({ resumeMs }) => resumeMs)
      comparisons.push(
        {
          what,
          figure: 'from the start of the process until the guest runs',
          unit: 'ms',
          ours,
          rival: { name: "QEMU's load", values: rounds.map(({ loadMs }) => loadMs) },
        },
        {
          what,
          figure: 'the same',
          unit: 'ms',
          ours,
          rival: { name: 'node -e 0', values: rounds.map(({ nodeMs }) => nodeMs) },
        },
        {
          what,
          figure: 'more than node -e 0',
          unit: 'ms',
          ours: rounds.map(({ resumeMs, nodeMs }) => resumeMs - nodeMs),
          target: { of: 'value', sense: 'at most', limit: 100 },
        },
      )
    }
    return { comparisons }
  },
}
