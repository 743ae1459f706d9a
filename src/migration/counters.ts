/**
 * Counters that a worker writes and the main thread reads at any time. They are plain doubles in
 * shared memory, so that a read costs the worker nothing.
 */

const names = [
  'startedAt',
  'setupMs',
  'endedAt',
  'stoppedAt',
  'downtimeMs',
  'transferredBytes',
  'precopyBytes',
  'downtimeBytes',
  'postcopyBytes',
  'normalPages',
  'zeroPages',
  'leftOutPages',
  'remainingPages',
  'dirtySyncCount',
  'dirtyPagesRate',
  'bytesPerSecond',
  'precopiedPages',
  'discardedPages',
  'requestedPages',
  'replayedPages',
  'duplicateFaults',
  'faults',
  'localFaults',
  'placeCalls',
] as const

export type CounterName = (typeof names)[number]

/**
 * One value per name; each user documents its unit. Times are milliseconds of
 * `performance.timeOrigin + now`.
 */
export type Counters = Record<CounterName, number>

/** Wraps shared memory so that `counters.faults += 1` writes into it. */
export function createCounters(
  buffer = new SharedArrayBuffer(names.length * Float64Array.BYTES_PER_ELEMENT),
): Counters & { readonly buffer: SharedArrayBuffer } {
  return wrap(buffer, true)
}

export type ReadOnlyCounters = Readonly<Counters> & { readonly buffer: SharedArrayBuffer }

/** The same for reading only: assigning to one is a TypeError. */
export function createReadOnlyCounters(): ReadOnlyCounters {
  const buffer = new SharedArrayBuffer(names.length * Float64Array.BYTES_PER_ELEMENT)
  return wrap(buffer, false)
}

function wrap(buffer: SharedArrayBuffer, isWritable: boolean): ReadOnlyCounters {
  const values = new Float64Array(buffer)
  const counters = Object.create(null) as ReadOnlyCounters
  Object.defineProperty(counters, 'buffer', { value: buffer })
  names.forEach((name, index) => {
    const set = (value: number): void => {
      values[index] = value
    }
    Object.defineProperty(counters, name, {
      enumerable: true,
      get: () => values[index],
      ...(isWritable ? { set } : {}),
    })
  })
  return counters
}

/** Milliseconds on a clock that all threads of the process share. */
export function now(): number {
  return performance.timeOrigin + performance.now()
}
