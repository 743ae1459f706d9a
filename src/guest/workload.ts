/**
 * The work of a guest's vCPUs, as text: `PATTERN[:OPTION=VALUE,…]`, for example
 * `sweep:hot=64M,writes=30`.
 */
import { PostcopyError } from '../errors.js'
import { TARGET_PAGE_SIZE, formatByteSize, parseByteSize } from '../units.js'

/** In the order of `Pattern` in native/common/workload.h. */
export const PATTERNS = ['idle', 'sweep', 'random', 'zipf', 'chase'] as const

/**
 * - `idle`: touches nothing and uses no CPU
 * - `sweep`: page after page, starting over after the last
 * - `random`: every hot page is equally likely
 * - `zipf`: the k-th most popular page is touched about 1 / k as often as the first
 * - `chase`: each page read gives the next page, so that no two touches can overlap
 */
export type Pattern = (typeof PATTERNS)[number]

/** A parsed workload. Each vCPU runs it on its own contiguous slice of `ram`. */
export interface Workload {
  readonly pattern: Pattern
  /** `hot=SIZE`: bytes touched while running, divided among the vCPUs; 0 (default) is all. */
  readonly hotBytes: number
  /** `writes=PERCENT` of touches that rewrite their page; default 20. */
  readonly writesPercent: number
  /** `fill=PERCENT` of pages written before the start; the others are zero; default 100. */
  readonly fillPercent: number
  /**
   * `rate=TOUCHES_PER_SECOND` of each vCPU; 0 (default) is as fast as it can. A vCPU with a rate
   * sleeps for a millisecond or more, and then makes all touches that are due.
   */
  readonly rate: number
  /** `touches=COUNT` after which a vCPU has finished; 0 (default) is never. */
  readonly touches: number
  /** `seed=NUMBER` of content and choices; default 1. */
  readonly seed: number
}

export const IDLE_WORKLOAD: Workload = {
  pattern: 'idle',
  hotBytes: 0,
  writesPercent: 20,
  fillPercent: 100,
  rate: 0,
  touches: 0,
  seed: 1,
}

const options: Record<string, (text: string) => Partial<Workload>> = {
  hot: (text) => ({ hotBytes: hotSize(text) }),
  writes: (text) => ({ writesPercent: integer('writes', text, 100) }),
  fill: (text) => ({ fillPercent: integer('fill', text, 100) }),
  rate: (text) => ({ rate: integer('rate', text, 1e9) }),
  touches: (text) => ({ touches: integer('touches', text) }),
  seed: (text) => ({ seed: integer('seed', text) }),
}

/** @throws PostcopyError `ERR_INVALID_WORKLOAD` with the wrong part and the possible values */
export function parseWorkload(text: string): Workload {
  const [name = '', ...rest] = text.split(':')
  const pattern = PATTERNS.find((known) => known === name)
  if (pattern === undefined) refuse(`unknown workload "${name}": one of ${PATTERNS.join(', ')}`)
  let workload: Workload = { ...IDLE_WORKLOAD, pattern }
  const given = new Set<string>()
  for (const item of rest.join(':').split(',')) {
    if (item === '' && rest.length === 0) break
    const [key = '', value] = item.split('=', 2)
    const parse = Object.hasOwn(options, key) ? options[key] : undefined
    if (parse === undefined) {
      refuse(`workload ${name}: unknown option "${key}": one of ${Object.keys(options).join(', ')}`)
    }
    if (value === undefined) refuse(`workload ${name}: option ${key} needs a value: ${key}=…`)
    if (given.has(key)) refuse(`workload ${name}: option ${key} is given twice`)
    given.add(key)
    workload = { ...workload, ...parse(value) }
  }
  return workload
}

/** The text that {@link parseWorkload} takes, without options that have their default. */
export function formatWorkload(workload: Workload): string {
  const { pattern, hotBytes, writesPercent, fillPercent, rate, touches, seed } = workload
  const all = [
    ['hot', hotBytes, IDLE_WORKLOAD.hotBytes],
    ['writes', writesPercent, IDLE_WORKLOAD.writesPercent],
    ['fill', fillPercent, IDLE_WORKLOAD.fillPercent],
    ['rate', rate, IDLE_WORKLOAD.rate],
    ['touches', touches, IDLE_WORKLOAD.touches],
    ['seed', seed, IDLE_WORKLOAD.seed],
  ] as const
  const changed = all.filter(([, value, usual]) => value !== usual)
  const text = changed.map(([key, value]) => `${key}=${value}`).join(',')
  return text === '' ? pattern : `${pattern}:${text}`
}

function hotSize(text: string): number {
  let bytes = 0
  try {
    bytes = parseByteSize(text)
  } catch (cause) {
    refuse(`hot: ${cause instanceof Error ? cause.message : text}`, { cause })
  }
  if (bytes < TARGET_PAGE_SIZE) {
    refuse(`hot=${text} is less than a page (${formatByteSize(TARGET_PAGE_SIZE)})`)
  }
  return bytes
}

function integer(key: string, text: string, max: number = Number.MAX_SAFE_INTEGER): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (!(value <= max)) {
    const range = max === Number.MAX_SAFE_INTEGER ? 'of at least 0' : `from 0 to ${max}`
    refuse(`${key}=${text}: must be an integer ${range}`)
  }
  return value
}

function refuse(message: string, options?: ErrorOptions): never {
  throw new PostcopyError('ERR_INVALID_WORKLOAD', message, options)
}
