/**
 * One end of a benchmark's migration, in a process of its own: `node end.js source|destination`.
 * The bench tells it what to do over IPC, one message a round.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Destination } from '../destination/destination.js'
import { Guest } from '../guest/index.js'
import { Source } from '../source/source.js'
import { assertNever } from '../units.js'

export interface RoundOptions {
  readonly ramBytes: number
  readonly memory: 'anon' | 'memfd' | 'hugetlb'
  readonly workload: string
  /** Switch to postcopy after so many milliseconds; undefined: never. */
  readonly postcopyAfterMs: number | undefined
}

/** From the bench. */
export type Command =
  | { readonly type: 'listen'; readonly options: RoundOptions }
  | { readonly type: 'migrate'; readonly options: RoundOptions; readonly uri: string }
  | { readonly type: 'exit' }

export interface RoundResult {
  readonly totalMs: number
  readonly downtimeMs: number
  readonly pages: number
  readonly requestedPages: number
  /** Longest time that the main thread's event loop did not come round. */
  readonly loopBlockedMs: number
  /** Resident at most, beyond the guest's RAM. */
  readonly beyondRamBytes: number
  readonly fault: { readonly p50Us: number; readonly p99Us: number } | undefined
}

export type Answer =
  | { readonly type: 'listening'; readonly uri: string }
  | { readonly type: 'done'; readonly result: RoundResult }

const capabilities = { 'postcopy-ram': true }
const parameters = { 'max-bandwidth': 0 }
let guest: Guest | undefined

function answer(message: Answer): void {
  process.send?.(message)
}

async function listen({ ramBytes, memory }: RoundOptions): Promise<void> {
  await guest?.close()
  guest = await Guest.create({ ram: ramBytes, memory, incoming: true })
  // Fresh memory of a virtual machine is slow to touch once; the bench is not about that.
  for (const { region, lengthBytes } of guest.blocks) {
    region.madvise('POPULATE_WRITE', 0, lengthBytes)
    region.discard(0, lengthBytes)
  }
  const destination = await Destination.listen(guest, {
    uri: 'tcp:127.0.0.1:0',
    capabilities,
    parameters,
  })
  const loop = monitorEventLoopDelay({ resolution: 1 })
  loop.enable()
  answer({ type: 'listening', uri: destination.uri })
  await destination.done
  loop.disable()
  await destination.close()
  const { counters, faults } = destination
  answer({
    type: 'done',
    result: {
      totalMs: counters.endedAt - counters.startedAt,
      downtimeMs: 0,
      pages: counters.normalPages + counters.zeroPages,
      requestedPages: counters.requestedPages,
      loopBlockedMs: loop.max / 1e6,
      beyondRamBytes: process.resourceUsage().maxRSS * 1024 - ramBytes,
      fault: faults,
    },
  })
}

async function migrate(options: RoundOptions, uri: string): Promise<void> {
  const { ramBytes, memory, workload, postcopyAfterMs } = options
  guest ??= await Guest.create({ ram: ramBytes, memory, workload })
  guest.start()
  const loop = monitorEventLoopDelay({ resolution: 1 })
  loop.enable()
  const source = Source.migrate(guest, { uri, capabilities, parameters })
  if (postcopyAfterMs === 0) source.startPostcopy()
  else if (postcopyAfterMs !== undefined) setTimeout(() => source.startPostcopy(), postcopyAfterMs)
  await source.done
  loop.disable()
  await source.close()
  const { counters } = source
  answer({
    type: 'done',
    result: {
      totalMs: counters.endedAt - counters.startedAt,
      downtimeMs: counters.downtimeMs,
      pages: counters.normalPages + counters.zeroPages,
      requestedPages: counters.requestedPages,
      loopBlockedMs: loop.max / 1e6,
      beyondRamBytes: process.resourceUsage().maxRSS * 1024 - ramBytes,
      fault: undefined,
    },
  })
}

process.on('message', (command: Command) => {
  switch (command.type) {
    case 'listen':
      void listen(command.options)
      break
    case 'migrate':
      void migrate(command.options, command.uri)
      break
    case 'exit':
      process.exit(0)
      break
    default:
      assertNever(command)
  }
})
