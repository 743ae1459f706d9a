/**
 * The least time that this host needs for the work of a postcopy. A program in C++
 * (`native/floor/`) does only that work, between two processes. Benchmarks quote ratios to it.
 */
import { execFile } from 'node:child_process'
import { PostcopyError } from '../errors.js'
import { buildAdvice, builtFile } from '../kernel/internal.js'

export interface FloorPushOptions {
  /** `records`: one ioctl per page. `runs`: one ioctl for all consecutive pages of one read. */
  readonly mode: 'records' | 'runs'
  readonly mib: number
  /** Percent of zero pages, scattered like those of a guest with `fill=`. Default 0. */
  readonly zeroPercent?: number
}

export interface FloorPush {
  /** From the first send until the last page is placed. */
  readonly seconds: number
  /** GB of RAM per second. */
  readonly gigabytesPerSecond: number
}

export interface FloorFaultOptions {
  /** How many pages are touched, each once. */
  readonly count: number
  /** The pages are chosen from this much RAM. */
  readonly mib: number
}

/** How long the touching thread waited, in microseconds. */
export interface FloorFault {
  readonly p50Us: number
  readonly p99Us: number
  readonly p999Us: number
  readonly maxUs: number
  /** 201 quantiles, one per half percent of the touches, from the shortest wait to the longest. */
  readonly quantilesUs: readonly number[]
}

const QUANTILES = 201

/** Pushes all of a guest's RAM; see {@link FloorPushOptions}. @throws PostcopyError `ERR_BENCH` */
export async function floorPush(options: FloorPushOptions): Promise<FloorPush> {
  const { mode, mib, zeroPercent = 0 } = options
  const args = ['push', mode, '--mib', String(mib), '--zero-percent', String(zeroPercent)]
  const result = await run(args)
  return {
    seconds: positive(result, 'seconds'),
    gigabytesPerSecond: positive(result, 'gigabytesPerSecond'),
  }
}

/** Touches missing pages one at a time, in random order. @throws PostcopyError `ERR_BENCH` */
export async function floorFault({ count, mib }: FloorFaultOptions): Promise<FloorFault> {
  const result = await run(['fault', '--count', String(count), '--mib', String(mib)])
  const quantilesUs = result['quantilesUs']
  if (!Array.isArray(quantilesUs) || quantilesUs.length !== QUANTILES) throw unlike('quantilesUs')
  return {
    p50Us: positive(result, 'p50Us'),
    p99Us: positive(result, 'p99Us'),
    p999Us: positive(result, 'p999Us'),
    maxUs: positive(result, 'maxUs'),
    quantilesUs: quantilesUs.map((value: unknown) => check(value, 'quantilesUs')),
  }
}

async function run(args: readonly string[]): Promise<Readonly<Record<string, unknown>>> {
  const line = await output(builtFile('floor'), args)
  let result: unknown
  try {
    result = JSON.parse(line)
  } catch {
    throw unlike('JSON')
  }
  if (typeof result !== 'object' || result === null) throw unlike('an object')
  return result as Readonly<Record<string, unknown>>
}

function output(path: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(path, args, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(failure(path, error, stderr.split('\n', 1)[0] ?? ''))
    })
  })
}

function failure(path: string, cause: Error & { code?: unknown }, said: string): PostcopyError {
  // The program's message names the remedy if there is one. Both ends may have
  // printed the same one.
  const message =
    cause.code === 'ENOENT'
      ? `the program ${path} does not exist: ${buildAdvice()}`
      : said === ''
        ? `the program ${path} failed: ${cause.message}`
        : said
  return new PostcopyError('ERR_BENCH', message, { cause })
}

function positive(result: Readonly<Record<string, unknown>>, name: string): number {
  return check(result[name], name)
}

function check(value: unknown, name: string): number {
  if (typeof value !== 'number' || !(value > 0)) throw unlike(name)
  return value
}

function unlike(name: string): PostcopyError {
  return new PostcopyError(
    'ERR_BENCH',
    `the floor did not print ${name} as expected: it was built from another version; ${buildAdvice(true)}`,
  )
}
