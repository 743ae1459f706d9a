/** Capabilities and parameters by QEMU's names, with QEMU's defaults, checked on input. */
import { PostcopyError } from '../errors.js'
import type { ConnectionParameters } from '../net/index.js'

export interface Capabilities {
  /** Both ends must agree. QEMU's first name for it, `x-postcopy-ram`, is accepted, too. */
  'postcopy-ram': boolean
  /** A second connection for requested pages; both ends must agree. Needs `postcopy-ram`. */
  'postcopy-preempt': boolean
  /** A return path also without postcopy: the source then waits for the destination's answer. */
  'return-path': boolean
  /** QMP clients get the events `MIGRATION` and `MIGRATION_PASS`. */
  events: boolean
  /** The destination shows how long vCPUs waited for pages. */
  'postcopy-blocktime': boolean
  /**
   * Reconnects automatically after a connection breaks in postcopy: the destination listens again
   * on the same address, and the source connects to it again. Each end decides for itself.
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
  /** Switch to postcopy automatically after this many milliseconds; 0 is never. */
  'x-postcopy-after-ms': number
  /** Switch to postcopy automatically after this many precopy rounds; 0 is never. */
  'x-postcopy-after-rounds': number
  /**
   * Postcopy pushes unrequested pages only after this many milliseconds without a page request.
   * {@link PUSH_NEVER} disables the push. 0 pushes at once, as QEMU does.
   */
  'x-push-after-quiet-ms': number
  /**
   * Postcopy sends pages ahead after a page request that continues a pattern: at most this many
   * host pages; 0 is none.
   */
  'x-read-ahead-pages': number
  /**
   * Microseconds for which an end polls before it sleeps, after it has sent a page request or a
   * requested page. A wakeup may take longer than all the rest. 0 disables polling, which saves
   * processor time if the network is slow.
   */
  'x-spin-us': number
  /** Largest package that a destination takes, in bytes. */
  'x-max-package-bytes': number
  /** Bytes of return path messages that a source may leave unread, besides received bitmaps. */
  'x-max-unread-bytes': number
  /**
   * Milliseconds to wait for a connection, for an answer, and for a guest to stop. At least 1,
   * because no wait is unlimited.
   */
  'x-timeout': number
  /**
   * Milliseconds after which a connection counts as broken if the peer's host does not answer any
   * more, although the connection was never closed; 0 is never.
   */
  'x-silence-timeout': number
  /** `x-auto-recover`: milliseconds before the first try; each further delay is twice as long. */
  'x-recover-delay': number
  /** `x-auto-recover`: the longest such delay, in milliseconds. */
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

/**
 * `x-push-after-quiet-ms`: only requested pages are sent; the migration ends when all pages were.
 */
export const PUSH_NEVER = Number.MAX_SAFE_INTEGER

const largest: Partial<Record<ParameterName, number>> = {
  'downtime-limit': 2_000_000,
  // Below the length of the queue that keeps requests in order.
  'x-read-ahead-pages': 16_384,
  // Polling blocks the event loop.
  'x-spin-us': 1000,
  // The kernel and Node's timers keep these in 32 bits.
  'x-handshake-timeout': 2 ** 31 - 1,
  'x-silence-timeout': 2 ** 31 - 1,
  'x-timeout': 2 ** 31 - 1,
}

/** For the other parameters 0 has a meaning of its own. */
const smallest: Partial<Record<ParameterName, number>> = { 'x-max-connections': 1, 'x-timeout': 1 }

/** @throws PostcopyError `ERR_UNKNOWN_PARAMETER`, naming those that exist */
export function parameterName(name: string): ParameterName {
  if (!Object.hasOwn(defaultParameters, name)) {
    const known = Object.keys(defaultParameters).join(', ')
    throw new PostcopyError('ERR_UNKNOWN_PARAMETER', `no parameter "${name}"; there are: ${known}`)
  }
  return name as ParameterName
}

/**
 * @throws PostcopyError `ERR_INVALID_PARAMETER` if the type is wrong or the value is out of range
 */
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

/**
 * @throws PostcopyError `ERR_UNKNOWN_OPTION` for a misspelt name, which would silently have no
 *   effect
 */
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
 * @throws PostcopyError `ERR_INVALID_OPTION` unless each option is left out or has a valid value
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

/** A check for {@link checkOptionValues}. */
export function isBoolean(value: unknown): boolean {
  return typeof value === 'boolean'
}

/** Resolves aliases. @throws PostcopyError `ERR_UNKNOWN_CAPABILITY`, `ERR_INVALID_CAPABILITY` */
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
  // Each value has the type of its parameter.
  return Object.fromEntries(checked) as Partial<Parameters>
}

/** Fills in defaults; rejects unknown names and bad values. */
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
