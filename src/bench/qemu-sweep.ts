/**
 * QEMU as the rival: a guest that sweeps its memory, migrated between two real QEMUs over TCP on
 * this machine, by postcopy from the first byte on.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { PostcopyError } from '../errors.js'
import { MIB } from './benchmark.js'
import { SWEEP_PARTS, SWEEP_SAYS, sweepingFirmware } from './qemu-guest.js'
import { measurePlausible } from './plausible.js'
import { type SerialCharacter, Vm } from './qemu-vm.js'

/** After these sweeps, code is translated and caches are warm. */
const WARM_SWEEPS = 2
/** Small guests need many: on a busy host their output arrives in bursts. */
const LOCAL_SWEEPS = 5
const LOCAL_MS = 300

export interface QemuSweepOptions {
  /** The postcopy-preempt capability: requested pages have a connection of their own. */
  readonly preempt: boolean
  readonly pattern: 'sweep' | 'random'
  readonly ramMib: number
  readonly hotMib: number
}

/** Times are in ms. The guest runs under TCG: compare its sweeps with `localSweepMs`. */
export interface QemuSweepResult {
  /** From `query-migrate` of the source. */
  readonly totalMs: number
  readonly downtimeMs: number
  readonly requests: number
  /** From `query-migrate` of the destination. */
  readonly blocktimeMs: number
  /**
   * From the guest's start at the destination until it has made as many touches
   * there as a sweep has.
   */
  readonly firstSweepMs: number
  /** A sweep at the source right before the migration, mean of a few. */
  readonly localSweepMs: number
  /**
   * How many sweeps the guest has done at the destination, by time since its start
   * there. Counted from the end of the first part there. That part began at the
   * source, so the count is up to 1 / 64 low.
   */
  readonly progress: readonly (readonly [ms: number, share: number])[]
}

/**
 * Migrates, and repeats it if QEMU's figures are impossible. All QEMUs
 * have ended when this returns.
 */
export function qemuSweep(options: QemuSweepOptions): Promise<QemuSweepResult> {
  return measurePlausible(() => migrateOnce(options))
}

async function migrateOnce(options: QemuSweepOptions): Promise<QemuSweepResult> {
  const { preempt, pattern, ramMib, hotMib } = options
  const folder = mkdtempSync(join(tmpdir(), 'postcopy-bench-'))
  try {
    const guest = { ramBytes: ramMib * MIB, hotBytes: hotMib * MIB, pattern }
    const args = ['-m', String(ramMib), '-serial', 'stdio', ...sweepingFirmware(folder, guest)]
    await using source = await Vm.start(folder, args)
    // The first touch of fresh memory in a virtual machine is slow, and
    // not what the bench measures.
    const incoming = ['-mem-prealloc', '-incoming', 'defer']
    await using destination = await Vm.start(folder, [...args, ...incoming])
    const capabilities = ['events', 'postcopy-ram', ...(preempt ? ['postcopy-preempt'] : [])]
    await source.enable(...capabilities)
    await destination.enable(...capabilities, 'postcopy-blocktime')
    const uri = await listen(destination)
    await source.execute('migrate-set-parameters', {
      'max-bandwidth': 2 ** 40,
      'max-postcopy-bandwidth': 0,
    })
    const localSweepMs = await measureLocalSweep(source)

    await source.execute('migrate', { uri })
    await source.execute('migrate-start-postcopy')
    await source.when('sent all', () => hasCompleted(source))
    await destination.when('had all', () => hasCompleted(destination))
    await destination.when('swept', () => saidBy(destination).length > SWEEP_PARTS)

    const progress = progressOf(destination)
    const info = await totals(source)
    const ram = info['ram'] as Record<string, unknown>
    const there = await destination.execute('query-migrate')
    return {
      totalMs: Number(info['total-time']),
      downtimeMs: Number(info['downtime']),
      requests: Number(ram['postcopy-requests']),
      blocktimeMs: Number(there['postcopy-blocktime']),
      firstSweepMs: progress[SWEEP_PARTS]?.[0] ?? NaN,
      localSweepMs,
      progress,
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** The kernel chooses a free port. */
async function listen(destination: Vm): Promise<string> {
  await destination.execute('migrate-incoming', { uri: 'tcp:127.0.0.1:0' })
  const info = await destination.execute('query-migrate')
  const [address] = info['socket-address'] as { port: string }[]
  return `tcp:127.0.0.1:${address?.port ?? ''}`
}

async function measureLocalSweep(source: Vm): Promise<number> {
  const before = source.serial.length
  let [count, totalMs] = [0, 0]
  await source.when('swept', () => {
    const ends = saidBy(source)
      .slice(before)
      .filter(({ character }) => character === SWEEP_SAYS.sweep)
      .slice(WARM_SWEEPS)
    count = ends.length - 1
    totalMs = (ends.at(-1)?.atMs ?? 0) - (ends[0]?.atMs ?? 0)
    return count >= LOCAL_SWEEPS && totalMs >= LOCAL_MS
  })
  return totalMs / count
}

function hasCompleted(vm: Vm): boolean {
  const statuses = vm.events
    .filter(({ event }) => event === 'MIGRATION')
    .map(({ data }) => data?.['status'])
  if (statuses.includes('failed')) throw new PostcopyError('ERR_BENCH', 'QEMU: migration failed')
  return statuses.includes('completed')
}

/** QEMU reports that the migration has completed a moment before it reports the total time. */
async function totals(source: Vm): Promise<Record<string, unknown>> {
  for (;;) {
    const info = await source.execute('query-migrate')
    if (Number(info['total-time']) > 0) return info
    await sleep(1)
  }
}

/** @throws PostcopyError if the guest has found a page with the wrong content */
function saidBy({ serial }: Vm): readonly SerialCharacter[] {
  if (serial.some(({ character }) => character === SWEEP_SAYS.wrong)) {
    throw new PostcopyError('ERR_BENCH', "a page of QEMU's guest is wrong")
  }
  return serial
}

function progressOf(destination: Vm): (readonly [ms: number, share: number])[] {
  const startMs = destination.events.find(({ event }) => event === 'RESUME')?.atMs ?? NaN
  // Characters and events arrive on two sockets, and those of one moment in any order.
  return saidBy(destination).map(({ atMs }, index) => [
    Math.max(0, atMs - startMs),
    index / SWEEP_PARTS,
  ])
}
