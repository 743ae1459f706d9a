/** Capabilities and parameters by QEMU's names, with QEMU's defaults, checked on the way in. */
import { PostcopyError } from '../errors.js'
import type { ConnectionParameters } from '../net/index.js'

export interface Capabilities {
  /** Both ends must agree. QEMU's first name for it, `x-postcopy-ram`, is taken too. */
  'postcopy-ram': boolean
  /** A second connection for requested pages; both ends must agree. Needs `postcopy-ram`. */
  'postcopy-preempt': boolean
  /** A return path also without postcopy: the source then waits for the destination's word. */
  'return-path': boolean
  /** QMP's clients are told `MIGRATION` and `MIGRATION_PASS`. */
  events: boolean
  /** The destination shows how long vCPUs waited for pages. */
  'postcopy-blocktime': boolean
  /**
   * A connection that breaks in postcopy is made again by itself: the destination listens again
   * where it did, the source connects there again. Each end decides for itself.
   */
  'x-auto-recover': boolean
}

export type CapabilityName = keyof Capabilities

export const defaultCapabilities: Readonly<Capabilities> = {
  'postcopy-ram': false,
  'postcopy-preempt': false,
  'return-path': false,
  events: false,
  'postcopy-blocktime': false,
  'x-auto-recover': false,
}

const aliases = new Map<string, CapabilityName>([['x-postcopy-ram', 'postcopy-ram']])

/** @throws PostcopyError `ERR_UNKNOWN_CAPABILITY`, naming those that exist */
export function capabilityName(name: string): CapabilityName {
  const real = aliases.get(name) ?? name
  if (!Object.hasOwn(defaultCapabilities, real)) {
    const known = Object.keys(defaultCapabilities).join(', ')
    throw new PostcopyError(
      'ERR_UNKNOWN_CAPABILITY',
      `no capability "${name}"; there are: ${known}`,
    )
  }
  return real as CapabilityName
}

export interface Parameters extends ConnectionParameters {
  /** Bytes per second in precopy; 0 is no limit. QEMU starts with 128 MiB/s, as we do. */
  'max-bandwidth': number
  /** Bytes per second of background pages in postcopy; 0 is no limit. Requested pages bypass it. */
  'max-postcopy-bandwidth': number
  /** Milliseconds that the guest may be stopped at the end of precopy. */
  'downtime-limit': number
  /** Switch to postcopy by itself after so many milliseconds; 0 is never. */
  'x-postcopy-after-ms': number
  /** Switch to postcopy by itself after so many precopy rounds; 0 is never. */
  'x-postcopy-after-rounds': number
  /**
   * Postcopy pushes pages that nobody asked for only when there was no page request for so many
   * milliseconds; {@link PUSH_NEVER} is not at all. 0 is at once, as QEMU does.
   */
  'x-push-after-quiet-ms': number
  /**
   * Postcopy sends pages unasked behind a page request that goes on with a pattern: so many host
   * pages at most; 0 is none.
   */
  'x-read-ahead-pages': number
  /**
   * Microseconds for which an end looks for the other's answer to what it has just sent, a page
   * request or a requested page, before it sleeps: being woken may take longer than all else. 0 is
   * not at all, which saves processor time where the network is slow.
   */
  'x-spin-us': number
  /** Largest package that a destination takes, in bytes. */
  'x-max-package-bytes': number
  /** Bytes that a source may leave unread of what it is told, besides received bitmaps. */
  'x-max-unread-bytes': number
  /**
   * Milliseconds to wait for a connection, for an answer, and for a guest to stop. From 1: there is
   * no waiting without an end.
   */
  'x-timeout': number
  /**
   * Milliseconds after which a connection counts as broken whose other end's host does not answer
   * any more, although nobody has closed it; 0 is never.
   */
  'x-silence-timeout': number
  /** `x-auto-recover`: milliseconds before the first try; each further one waits twice as long. */
  'x-recover-delay': number
  /** `x-auto-recover`: the longest such wait, in milliseconds. */
  'x-recover-delay-max': number
}

export type ParameterName = keyof Parameters

export type ParameterValue = Parameters[ParameterName]

export const defaultParameters: Readonly<Parameters> = {
  'max-bandwidth': 128 * 1024 * 1024,
  'max-postcopy-bandwidth': 0,
  'downtime-limit': 300,
  'x-postcopy-after-ms': 0,
  'x-postcopy-after-rounds': 0,
  'x-push-after-quiet-ms': 0,
  'x-read-ahead-pages': 256,
  'x-spin-us': 100,
  'x-max-package-bytes': 256 * 1024 * 1024,
  'x-max-unread-bytes': 4 * 1024 * 1024,
  'x-max-connections': 16,
  'x-handshake-timeout': 10_000,
  'x-timeout': 30_000,
  'x-silence-timeout': 15_000,
  'tls-creds': '',
  'tls-hostname': '',
  'x-recover-delay': 200,
  'x-recover-delay-max': 10_000,
}

/** `x-push-after-quiet-ms`: only what was asked for is sent; the migration ends when all of it was. */
export const PUSH_NEVER = Number.MAX_SAFE_INTEGER

const largest: Partial<Record<ParameterName, number>> = {
  'downtime-limit': 2_000_000,
  // A queue of requests that wait in order is longer.
  'x-read-ahead-pages': 16_384,
  // The event loop stands still meanwhile.
  'x-spin-us': 1000,
  // The kernel keeps them in 32 bits, or timers do.
  'x-handshake-timeout': 2 ** 31 - 1,
  'x-silence-timeout': 2 ** 31 - 1,
  'x-timeout': 2 ** 31 - 1,
}

/** Of the others, 0 is a value with a meaning of its own. */
const smallest: Partial<Record<ParameterName, number>> = { 'x-max-connections': 1, 'x-timeout': 1 }

/** @throws PostcopyError `ERR_UNKNOWN_PARAMETER`, naming those that exist */
export function parameterName(name: string): ParameterName {
  if (!Object.hasOwn(defaultParameters, name)) {
    const known = Object.keys(defaultParameters).join(', ')
    throw new PostcopyError('ERR_UNKNOWN_PARAMETER', `no parameter "${name}"; there are: ${known}`)
  }
  return name as ParameterName
}

/** @throws PostcopyError `ERR_INVALID_PARAMETER` for a value of another type, or out of range */
export function checkParameter(name: ParameterName, value: ParameterValue): ParameterValue {
  const least = smallest[name] ?? 0
  const most = largest[name] ?? Number.MAX_SAFE_INTEGER
  const isText = typeof defaultParameters[name] === 'string'
  const isGood = isText
    ? typeof value === 'string'
    : Number.isSafeInteger(value) && Number(value) >= least && Number(value) <= most
  if (isGood) return value
  const wanted = isText ? 'a text' : `a whole number from ${least} to ${most}`
  throw new PostcopyError('ERR_INVALID_PARAMETER', `${name} must be ${wanted}, not ${value}`)
}

export interface MigrationOptions {
  capabilities?: Partial<Capabilities>
  parameters?: Partial<Parameters>
}

/** @throws PostcopyError `ERR_UNKNOWN_OPTION` for a misspelt one, which would silently be its default */
export function checkOptionNames(options: object, known: readonly string[]): void {
  if (typeof options !== 'object' || (options as unknown) === null) {
    throw new PostcopyError('ERR_INVALID_OPTION', 'options are an object with names and values')
  }
  const unknown = Object.keys(options).find((name) => !known.includes(name))
  if (unknown === undefined) return
  throw new PostcopyError(
    'ERR_UNKNOWN_OPTION',
    `no option "${unknown}"; there are: ${known.join(', ')}`,
  )
}

/**
 * @throws PostcopyError `ERR_INVALID_OPTION` unless each has one of its values, or is left out
 */
export function checkOptionValues<O extends object>(
  options: O,
  values: { readonly [K in keyof O]?: (value: unknown) => boolean },
): void {
  for (const [name, value] of Object.entries(options)) {
    const isGood = values[name as keyof O]
    if (value === undefined || isGood === undefined || isGood(value)) continue
    throw new PostcopyError('ERR_INVALID_OPTION', `${name} cannot be ${String(value)}`)
  }
}

/** A value that {@link checkOptionValues} takes. */
export function isBoolean(value: unknown): boolean {
  return typeof value === 'boolean'
}

/** Real names for names. @throws PostcopyError `ERR_UNKNOWN_CAPABILITY`, `ERR_INVALID_CAPABILITY` */
export function checkCapabilities(given: Readonly<Record<string, boolean>>): Partial<Capabilities> {
  const checked = Object.entries(given).map(([name, on]) => {
    const known = capabilityName(name)
    if (isBoolean(on)) return [known, on]
    throw new PostcopyError('ERR_INVALID_CAPABILITY', `${name} is true or false, not ${String(on)}`)
  })
  return Object.fromEntries(checked) as Partial<Capabilities>
}

/** @throws PostcopyError `ERR_UNKNOWN_PARAMETER`, `ERR_INVALID_PARAMETER` */
export function checkParameters(
  given: Readonly<Record<string, ParameterValue>>,
): Partial<Parameters> {
  const checked = Object.entries(given).map(([name, value]) => {
    const known = parameterName(name)
    return [known, checkParameter(known, value)]
  })
  // Each value is of its parameter's type.
  return Object.fromEntries(checked) as Partial<Parameters>
}

/** Fills in defaults and refuses unknown names and bad values. */
export function resolveOptions(options: MigrationOptions): {
  capabilities: Capabilities
  parameters: Parameters
} {
  const capabilities = {
    ...defaultCapabilities,
    ...checkCapabilities(options.capabilities ?? {}),
  }
  if (capabilities['postcopy-preempt'] && !capabilities['postcopy-ram']) {
    throw new PostcopyError('ERR_INVALID_CAPABILITY', 'postcopy-preempt needs postcopy-ram')
  }
  const parameters = { ...defaultParameters, ...checkParameters(options.parameters ?? {}) }
  return { capabilities, parameters }
}
