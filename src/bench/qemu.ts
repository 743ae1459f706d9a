/**
 * `npm run bench:qemu [-- --quick]`: a VM of a real QEMU, parked and resumed by us, beside QEMU's
 * own saving and loading of it, in turn. The guest writes all of its RAM but the first MiB.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Table from 'cli-table3'
import { Command } from 'commander'
import { Park, ParkedVm, resume } from '../park/index.js'
import { countingFirmware } from './qemu-guest.js'
import { Vm } from './qemu-vm.js'
import { type Spread, spread } from './statistics.js'

const MIB = 2 ** 20

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
