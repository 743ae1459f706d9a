/**
 * Migrations of idle guests, switched at once. `push`, `switch` and `scale` examine different
 * figures of them. Each case runs once, when the first benchmark asks for it.
 */
import { type Round, Pair } from './pair.js'
import { type RunOptions, GIB, MIB } from './benchmark.js'
import { floorPush } from './floor.js'

/** A larger guest takes so long that only a third of the rounds is run. */
const LARGE_BYTES = 4 * GIB

export interface IdleCase {
  readonly ramBytes: number
  /** Percent of pages that are not zero. */
  readonly fillPercent: number
  /** Also measure the C program, in turn. */
  readonly withFloor: boolean
}

export interface IdleRounds {
  readonly ours: readonly Round[]
  /** GB of RAM per second. */
  readonly floor: { readonly records: readonly number[]; readonly runs: readonly number[] }
}

export class IdleMigrations {
  readonly #cases = new Map<string, Promise<IdleRounds>>()

  rounds(which: IdleCase, options: RunOptions): Promise<IdleRounds> {
    const key = `${which.ramBytes} ${which.fillPercent}`
    const known = this.#cases.get(key)
    if (known !== undefined) return known
    const rounds = measure(which, options)
    this.#cases.set(key, rounds)
    return rounds
  }
}

async function measure(which: IdleCase, options: RunOptions): Promise<IdleRounds> {
  const { ramBytes, fillPercent, withFloor } = which
  const workload = `idle:fill=${fillPercent}`
  const ours: Round[] = []
  const records: number[] = []
  const runs: number[] = []
  const floor = async (mode: 'records' | 'runs'): Promise<number> => {
    // This much memory is always warm. More of it may be cold, which would measure no floor.
    const mib = Math.min(ramBytes, GIB / 2) / MIB
    const { gigabytesPerSecond } = await floorPush({ mode, mib, zeroPercent: 100 - fillPercent })
    options.progress()
    return gigabytesPerSecond
  }
  await using pair = new Pair()
  const rounds = ramBytes > LARGE_BYTES ? Math.ceil(options.rounds / 3) : options.rounds
  // The first round is not counted: memory and code are cold.
  for (let round = 0; round <= rounds; round += 1) {
    const result = await pair.round({ ramBytes, workload, postcopyAfterMs: 0 })
    options.progress()
    if (round === 0) continue
    ours.push(result)
    if (!withFloor) continue
    records.push(await floor('records'))
    runs.push(await floor('runs'))
  }
  return { ours, floor: { records, runs } }
}
