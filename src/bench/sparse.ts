/**
 * A machine most of whose RAM was never written: how long until the destination has all of it, and
 * how that depends on RAM.
 */
import { Destination } from '../destination/index.js'
import { MemoryRegion } from '../kernel/index.js'
import type { DeviceState, MachineBlock, MigratableMachine } from '../migration/index.js'
import { Source } from '../source/index.js'
import { formatByteSize, TARGET_PAGE_SIZE } from '../units.js'
import { type Benchmark, type Comparison, fewer, GIB, MIB, type RunOptions } from './benchmark.js'

const DATA_BYTES = MIB / 2
const MOST_MS = 500
/** By default the kernel refuses a mapping that is larger than the host's memory. */
const MOST_BLOCK_BYTES = 8 * GIB
const capabilities = { 'postcopy-ram': true }

/** Has RAM, and nothing else. */
class BlankMachine implements MigratableMachine {
  readonly machineType = 'blank'
  readonly blocks: readonly MachineBlock[]
  running = false

  constructor(ramBytes: number) {
    const count = Math.ceil(ramBytes / MOST_BLOCK_BYTES)
    const lengthBytes = ramBytes / count
    this.blocks = Array.from({ length: count }, (_, index) => ({
      name: `ram${index}`,
      region: MemoryRegion.create({ kind: 'anon', lengthBytes }),
      lengthBytes,
    }))
  }

  /** Spreads pages with data over all RAM. */
  writeData(): void {
    const count = DATA_BYTES / TARGET_PAGE_SIZE / this.blocks.length
    for (const { region, lengthBytes } of this.blocks) {
      const stepBytes = lengthBytes / count
      for (let index = 0; index < count; index += 1) {
        region.write(index * stepBytes, new Uint8Array(TARGET_PAGE_SIZE).fill(index + 1))
      }
    }
  }

  /** Makes each page present: the kernel then does not know that it is zero. */
  populate(): void {
    for (const { region, lengthBytes } of this.blocks) {
      region.madvise('NOHUGEPAGE')
      region.madvise('POPULATE_WRITE', 0, lengthBytes)
    }
  }

  start(): void {
    this.running = true
  }

  async stop(): Promise<void> {
    this.running = false
    await Promise.resolve()
  }

  saveDevices(): DeviceState[] {
    return []
  }

  loadDevice(): number {
    return 0
  }

  resumeAfterLoad(): void {
    this.start()
  }

  vcpuThreadIds(): number[] {
    return []
  }

  close(): void {
    for (const { region } of this.blocks) region.close()
  }
}

/** Milliseconds from connecting until the destination has all memory. */
async function migrate(ramBytes: number, isPopulated: boolean): Promise<number> {
  const here = new BlankMachine(ramBytes)
  const there = new BlankMachine(ramBytes)
  if (isPopulated) here.populate()
  here.writeData()
  const destination = await Destination.listen(there, { uri: 'tcp:127.0.0.1:0', capabilities })
  const options = { uri: destination.uri, capabilities, postcopyAtOnce: true }
  const source = Source.migrate(here, { ...options, dirtyLog: 'none' })
  await Promise.all([source.done, destination.done])
  const { startedAt, endedAt } = source.counters
  await Promise.all([source.close(), destination.close()])
  here.close()
  there.close()
  return endedAt - startedAt
}

export const sparseBenchmark: Benchmark = {
  name: 'sparse',
  question: 'How long does RAM take that was never written?',
  run: async (options: RunOptions) => {
    const gibs = options.quick ? [1, 4] : [1, 16, 64]
    const comparisons: Comparison[] = []
    for (const gib of gibs) {
      const ours: number[] = []
      const sent: number[] = []
      // The first round is not counted: code is cold.
      for (let round = 0; round <= fewer(options.rounds); round += 1) {
        const ms = await migrate(gib * GIB, false)
        // The rival needs the memory: one size shows what zero pages cost.
        const rivalMs = gib === 1 ? await migrate(gib * GIB, true) : undefined
        options.progress()
        if (round === 0) continue
        ours.push(ms)
        if (rivalMs !== undefined) sent.push(rivalMs)
      }
      comparisons.push({
        what: `${formatByteSize(gib * GIB)}, ${formatByteSize(DATA_BYTES)} of it data`,
        figure: 'all memory is there',
        unit: 'ms',
        ours,
        ...(sent.length === 0 ? {} : { rival: { name: 'zero pages sent', values: sent } }),
        target:
          sent.length === 0
            ? { of: 'value', sense: 'at most', limit: MOST_MS }
            : { of: 'ratio', sense: 'at most', limit: 1 },
      })
    }
    return { comparisons }
  },
}
