/**
 * QEMU as the rival: a guest that sweeps its memory, migrated from a real QEMU to another one by
 * postcopy from the first byte on, over TCP on this machine.
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

/** Code is translated and caches are warm after some. */
const WARM_SWEEPS = 2
/** Of small guests many: what they say arrives in bursts on a busy host. */
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
  /** As the source's `query-migrate` has them. */
  readonly totalMs: number
  readonly downtimeMs: number
  readonly requests: number
  /** As the destination's `query-migrate` has it. */
  readonly blocktimeMs: number
  /** From the guest's start at the destination until it has touched there what a sweep does. */
  readonly firstSweepMs: number
  /** A sweep at the source right before the migration, mean of a few. */
  readonly localSweepMs: number
  /**
   * After so many ms at the destination, the guest has done so many sweeps there. Counted from the
   * first part that ends there, which has begun at the source: up to 1 / 64 too little.
   */
  readonly progress: readonly (readonly [ms: number, share: number])[]
}

/** Migrates, again where QEMU's figures cannot be; all QEMUs are gone when this returns. */
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
    // Fresh memory of a virtual machine is slow to touch once; the bench is not about that.
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

/** The port is the kernel's choice, so that it is free. */
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

/** QEMU says that it has completed a moment before it knows how long that took. */
async function totals(source: Vm): Promise<Record<string, unknown>> {
  for (;;) {
    const info = await source.execute('query-migrate')
    if (Number(info['total-time']) > 0) return info
    await sleep(1)
  }
}

/** @throws PostcopyError if the guest has found a page that is not as it left it */
function saidBy({ serial }: Vm): readonly SerialCharacter[] {
  if (serial.some(({ character }) => character === SWEEP_SAYS.wrong)) {
    throw new PostcopyError('ERR_BENCH', "a page of QEMU's guest is wrong")
  }
  return serial
}

function progressOf(destination: Vm): (readonly [ms: number, share: number])[] {
  const startMs = destination.events.find(({ event }) => event === 'RESUME')?.atMs ?? NaN
  // Characters and events come on two sockets, and those of one moment in any order.
  return saidBy(destination).map(({ atMs }, index) => [
    Math.max(0, atMs - startMs),
    index / SWEEP_PARTS,
  ])
}
