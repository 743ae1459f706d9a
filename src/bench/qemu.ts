/**
 * `npm run bench:qemu [-- --quick]`: a VM of a real QEMU, parked and resumed by us, beside QEMU's
 * own saving and loading of it, in turn. The guest writes all of its RAM but the first MiB.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import Table from 'cli-table3'
import { Command } from 'commander'
import { PostcopyError } from '../errors.js'
import { Park, ParkedVm, resume } from '../park/index.js'
import { countingFirmware } from './qemu-guest.js'
import { type Spread, spread } from './statistics.js'

const MIB = 2 ** 20

/** A QEMU driven by QMP; `close` kills it. */
class Vm {
  readonly #process: ChildProcess
  readonly #monitor: net.Socket
  readonly #answers: AsyncIterator<string>

  private constructor(process: ChildProcess, monitor: net.Socket) {
    this.#process = process
    this.#monitor = monitor
    this.#answers = createInterface(monitor)[Symbol.asyncIterator]()
  }

  static async start(folder: string, args: readonly string[]): Promise<Vm> {
    const path = join(folder, `qmp-${process.hrtime.bigint()}`)
    const common = ['-accel', 'tcg', '-nodefaults', '-display', 'none', '-machine', 'pc']
    const child = spawn(
      'qemu-system-x86_64',
      [...common, '-qmp', `unix:${path},server=on,wait=off`, ...args],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    )
    child.on('error', () => undefined)
    for (;;) {
      const monitor = net.connect(path)
      try {
        await once(monitor, 'connect')
        const vm = new Vm(child, monitor)
        await vm.execute('qmp_capabilities')
        return vm
      } catch {
        if (child.pid === undefined || child.exitCode !== null) {
          throw new PostcopyError(
            'ERR_BENCH',
            'QEMU did not start: install the Debian package qemu-system-x86',
          )
        }
        await sleep(10)
      }
    }
  }

  async execute(command: string, args: object = {}): Promise<Record<string, unknown>> {
    this.#monitor.write(`${JSON.stringify({ execute: command, arguments: args })}\n`)
    for (;;) {
      const line = await this.#answers.next()
      if (line.done === true) throw new PostcopyError('ERR_BENCH', `QEMU ended at ${command}`)
      const answer = JSON.parse(line.value) as Record<string, unknown>
      if ('error' in answer) throw new PostcopyError('ERR_BENCH', JSON.stringify(answer['error']))
      if ('return' in answer) return answer['return'] as Record<string, unknown>
    }
  }

  async until(command: string, status: string): Promise<void> {
    while ((await this.execute(command))['status'] !== status) await sleep(1)
  }

  async close(): Promise<void> {
    const exit = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await exit
  }
}

interface Round {
  readonly parkMs: number
  readonly saveMs: number
  /** From connecting until the guest runs. */
  readonly resumeMs: number
  readonly resumeTotalMs: number
  /** From the start of QEMU's own load of the saved stream until the guest runs. */
  readonly loadMs: number
}

async function measure(ramMib: number): Promise<Round> {
  const folder = mkdtempSync(join(tmpdir(), 'postcopy-bench-'))
  const args = ['-m', String(ramMib), ...countingFirmware(folder, ramMib * MIB)]
  try {
    const vm = await Vm.start(folder, args)
    // Every page has been written when the guest has been through its RAM once.
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
    await vm.close()

    // Both come from the page cache: they were written just now.
    const { resumeMs, resumeTotalMs } = await measureResume(folder, directory, args)
    const loader = await Vm.start(folder, [...args, '-incoming', 'defer'])
    from = performance.now()
    await loader.execute('migrate-incoming', { uri: `exec:cat ${file}` })
    await loader.until('query-migrate', 'completed')
    const loadMs = performance.now() - from
    await loader.close()
    return { parkMs, saveMs, resumeMs, resumeTotalMs, loadMs }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

async function measureResume(
  folder: string,
  directory: string,
  args: readonly string[],
): Promise<Pick<Round, 'resumeMs' | 'resumeTotalMs'>> {
  const vm = await Vm.start(folder, [...args, '-incoming', 'defer'])
  const parked = ParkedVm.open(directory)
  try {
    await vm.execute('migrate-set-capabilities', {
      capabilities: [{ capability: 'postcopy-ram', state: true }],
    })
    const uri = `unix:${join(folder, 'resume')}`
    await vm.execute('migrate-incoming', { uri })
    const source = resume(parked, { uri })
    await source.done
    const { startedAt, stoppedAt, downtimeMs, endedAt } = source.counters
    await source.close()
    return { resumeMs: stoppedAt + downtimeMs - startedAt, resumeTotalMs: endedAt - startedAt }
  } finally {
    parked.close()
    await vm.close()
  }
}

function show(rounds: readonly Round[], pick: (round: Round) => number, digits = 0): string {
  const { min, median, max }: Spread = spread(rounds.map(pick))
  return `${median.toFixed(digits)} (${min.toFixed(digits)} - ${max.toFixed(digits)})`
}

await new Command('bench:qemu')
  .description('Parks and resumes a VM of a real QEMU, beside QEMU itself.')
  .option('--quick', 'one round instead of three')
  .option('--json', 'every round as JSON instead of a table')
  .action(async (options: { quick?: boolean; json?: boolean }) => {
    const results = new Map<number, Round[]>([256, 1024, 2048].map((ram) => [ram, []]))
    for (let round = 0; round < (options.quick === true ? 1 : 3); round += 1) {
      for (const [ramMib, rounds] of results) {
        rounds.push(await measure(ramMib))
        process.stderr.write('.')
      }
    }
    process.stderr.write('\n')
    if (options.json === true) {
      console.log(JSON.stringify([...results].map(([ramMib, rounds]) => ({ ramMib, rounds }))))
      return
    }
    const table = new Table({
      style: { head: [], border: [] },
      head: [
        'guest',
        'runs after resume, ms',
        "after QEMU's load, ms",
        'all memory there, ms',
        'pushed, MB/s',
        'parked, MB/s',
        'saved by QEMU, MB/s',
      ],
    })
    for (const [ramMib, rounds] of results) {
      const rate = (ms: number): number => (ramMib * MIB) / ms / 1000
      table.push([
        `${ramMib} MiB`,
        show(rounds, ({ resumeMs }) => resumeMs, 1),
        show(rounds, ({ loadMs }) => loadMs),
        show(rounds, ({ resumeTotalMs }) => resumeTotalMs),
        show(rounds, ({ resumeTotalMs }) => rate(resumeTotalMs)),
        show(rounds, ({ parkMs }) => rate(parkMs)),
        show(rounds, ({ saveMs }) => rate(saveMs)),
      ])
    }
    console.log('median (minimum - maximum) of rounds taken in turn')
    console.log(table.toString())
  })
  .parseAsync()
