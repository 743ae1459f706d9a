/**
 * One end of a benchmark's migrations, in a process of its own: `node end.js`. The bench sends it
 * commands over IPC, one per round.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Destination } from '../destination/index.js'
import { Guest } from '../guest/index.js'
import { compileWithoutThreads } from '../cli/index.js'
import { type Counters, PUSH_NEVER } from '../migration/index.js'
import { Source } from '../source/index.js'
import { assertNever } from '../units.js'
import type { Answer, Command, EndResult, RoundOptions } from './round.js'
import { TouchWatch, touchesOf } from './touch-watch.js'

const capabilities = { 'postcopy-ram': true }
let guest: Guest | undefined

// As the `postcopy` command does.
compileWithoutThreads()

function answer(message: Answer): void {
  process.send?.(message)
}

/** Starts measuring this process. The returned function returns the result. */
function watchProcess(ramBytes: number): (counters: Counters) => EndResult {
  const cpuBefore = process.cpuUsage()
  const startedAt = performance.now()
  return (counters) => {
    const { user, system } = process.cpuUsage(cpuBefore)
    const cpuSeconds = (user + system) / 1e6
    return {
      totalMs: counters.endedAt - counters.startedAt,
      pages: counters.normalPages + counters.zeroPages + counters.leftOutPages,
      requestedPages: counters.requestedPages,
      beyondRamBytes: process.resourceUsage().maxRSS * 1024 - ramBytes,
      cpuSeconds,
      processors: cpuSeconds / ((performance.now() - startedAt) / 1000),
    }
  }
}

async function listen(options: RoundOptions): Promise<void> {
  const { ramBytes, vcpus = 1, host = '127.0.0.1' } = options
  await guest?.close()
  guest = await Guest.create({ ram: ramBytes, vcpus, incoming: true })
  // The first touch of fresh memory in a virtual machine is slow, and not what the bench measures.
  for (const { region, lengthBytes } of guest.blocks) {
    region.madvise('POPULATE_WRITE', 0, lengthBytes)
    region.discard(0, lengthBytes)
  }
  const destination = await Destination.listen(guest, {
    uri: `tcp:${host}:0`,
    capabilities,
  })
  const touches = new TouchWatch(guest, options)
  destination.on('state', (state) => {
    if (state === 'active') report = watchProcess(ramBytes)
    if (state === 'postcopy-active') touches.begin()
  })
  let report = watchProcess(ramBytes)
  answer({ type: 'listening', uri: destination.uri })
  await destination.done
  const result = report(destination.counters)
  const seen = await touches.end()
  const placedP99Us = destination.faults?.p99Us ?? NaN
  await destination.close()
  if (guest.running) await guest.stop()
  answer({ type: 'arrived', result: { ...result, ...seen, placedP99Us } })
}

async function migrate(options: RoundOptions, uri: string): Promise<void> {
  const { ramBytes, workload, vcpus = 1, warmUpMs = 0 } = options
  guest ??= await Guest.create({ ram: ramBytes, vcpus, workload })
  guest.start()
  const touchesAtFirst = touchesOf(guest)
  const startedAt = performance.now()
  await sleep(warmUpMs)
  const before = perSecond(touchesOf(guest) - touchesAtFirst, performance.now() - startedAt)
  const report = watchProcess(ramBytes)
  const { postcopyAfterMs, pushAfterMs } = options
  const source = Source.migrate(guest, {
    uri,
    capabilities,
    parameters: {
      'max-bandwidth': 0,
      ...options.parameters,
      ...(pushAfterMs === undefined ? {} : { 'x-push-after-quiet-ms': PUSH_NEVER }),
      ...(postcopyAfterMs === undefined ? {} : { 'x-postcopy-after-ms': postcopyAfterMs }),
    },
  })
  let precopyFrom = { at: performance.now(), touches: touchesOf(guest) }
  let precopy = { touchesPerSecond: 0, ms: 0 }
  source.on('state', (state) => {
    if (state === 'active' && guest !== undefined) {
      precopyFrom = { at: performance.now(), touches: touchesOf(guest) }
    }
    if (state === 'device' && guest !== undefined) {
      const ms = performance.now() - precopyFrom.at
      precopy = {
        ms,
        touchesPerSecond: perSecond(touchesOf(guest) - precopyFrom.touches, ms),
      }
    }
    if (state === 'postcopy-active' && pushAfterMs !== undefined) {
      setTimeout(() => source.setParameters({ 'x-push-after-quiet-ms': 0 }), pushAfterMs)
    }
  })
  if (postcopyAfterMs === 0) source.startPostcopy()
  await source.done
  const { counters } = source
  const result = report(counters)
  await source.close()
  answer({
    type: 'migrated',
    result: {
      ...result,
      downtimeMs: counters.downtimeMs,
      precopyBytes: counters.precopyBytes,
      precopyMs: precopy.ms,
      rounds: counters.dirtySyncCount,
      touchesPerSecond: { before, precopy: precopy.touchesPerSecond },
    },
  })
}

function perSecond(count: number, ms: number): number {
  return ms === 0 ? 0 : (count * 1000) / ms
}

/** Reports the failure; the bench then ends the processes that it started. */
function tellFailure(error: unknown): void {
  answer({ type: 'failed', reason: error instanceof Error ? error.message : String(error) })
}

process.on('message', (command: Command) => {
  switch (command.type) {
    case 'listen':
      listen(command.options).catch(tellFailure)
      break
    case 'migrate':
      migrate(command.options, command.uri).catch(tellFailure)
      break
    case 'exit':
      process.exit(0)
      break
    default:
      assertNever(command)
  }
})
