/** Finds an open method for userfaultfd that works for this process, and negotiates features. */
import { KernelError } from '../errors.js'
import { errnoName, kernelError } from './check.js'
import { readConfinement } from './confinement.js'
import { featureSince, featuresFromMask, featuresToMask } from './features.js'
import type { FeatureName } from './features.js'
import { native } from './load.js'
import { openMethods } from './native.js'
import type { NativeUserfaultfd, OpenMethod } from './native.js'
import { joinRemedies, remedyFor } from './open-remedy.js'

export interface UserfaultfdOptions {
  /** Required features, by their names in `linux/userfaultfd.h`. Default none. */
  features?: readonly FeatureName[]
  /** Features to enable if the kernel has them. Default none. */
  optional?: readonly FeatureName[]
  /**
   * `true`: handle only faults of user code. `false`: also faults inside the kernel, or fail.
   * Default: kernel faults too if this process may handle them.
   */
  userModeOnly?: boolean
  /** Default: the device, then the system call. */
  method?: OpenMethod
}

export const userfaultfdOptionNames: readonly string[] = [
  'features',
  'optional',
  'userModeOnly',
  'method',
]

interface Attempt {
  method: OpenMethod
  userModeOnly: boolean
}

/** The result of one open method: the kernel's features, or the error. */
export interface OpenMethodReport extends Attempt {
  /** `undefined` if it opened. */
  error: string | undefined
  available: ReadonlySet<FeatureName>
}

/** Opens a userfaultfd by `method`, asks for its features, and closes it. */
export function probeOpenMethod(method: OpenMethod, userModeOnly: boolean): OpenMethodReport {
  const answer = native().uffdProbe(openMethods.indexOf(method), userModeOnly)
  return typeof answer === 'number'
    ? { method, userModeOnly, error: errnoName(answer), available: new Set() }
    : { method, userModeOnly, error: undefined, available: featuresFromMask(answer) }
}

/** Probes every open method. */
export function probeOpenMethods(): OpenMethodReport[] {
  return [
    probeOpenMethod('device', false),
    probeOpenMethod('syscall', false),
    probeOpenMethod('syscall', true),
  ]
}

/** Opens a userfaultfd by the first method that works. */
export function openUserfaultfd(options: UserfaultfdOptions): NativeUserfaultfd {
  const refusals: { attempt: Attempt; errno: number }[] = []
  for (const attempt of attempts(options)) {
    // UFFDIO_API fails if it requests a feature that the kernel lacks, and a descriptor takes it
    // only once. Therefore one descriptor asks for the features, and another one is used.
    const answer = native().uffdProbe(openMethods.indexOf(attempt.method), attempt.userModeOnly)
    if (typeof answer === 'bigint') return handshake(attempt, answer, options)
    refusals.push({ attempt, errno: answer })
  }
  // Prefer the error of the system call: the device may simply not exist.
  const telling = refusals.find(({ attempt }) => attempt.method === 'syscall') ?? refusals[0]
  if (telling === undefined) throw new TypeError('method must be device or syscall')
  const all = refusals.map(({ attempt, errno }) => `${describe(attempt)}: ${errnoName(errno)}`)
  const hint = `${all.join(', ')}; ${openHint(options)}`
  throw kernelError(telling.errno, 'userfaultfd', describe(telling.attempt), hint)
}

function attempts({ method, userModeOnly }: UserfaultfdOptions): Attempt[] {
  const chosen: readonly OpenMethod[] = method === undefined ? openMethods : [method]
  const full = chosen.map((each) => ({ method: each, userModeOnly: userModeOnly ?? false }))
  if (userModeOnly !== undefined) return full
  // A device that opens always allows kernel faults, so only the system call has a second attempt.
  return chosen.includes('syscall') ? [...full, { method: 'syscall', userModeOnly: true }] : full
}

function handshake(
  attempt: Attempt,
  kernelMask: bigint,
  options: UserfaultfdOptions,
): NativeUserfaultfd {
  const { features = [], optional = [] } = options
  const available = featuresFromMask(kernelMask)
  const lacking = features.filter((name) => !available.has(name))
  if (lacking.length > 0) {
    featuresToMask(lacking) // throws a TypeError for an unknown name
    const since = lacking.map((name) => `${name} (Linux ${featureSince(name)})`).join(', ')
    throw new KernelError('EINVAL', -22, 'ioctl', {
      args: 'UFFDIO_API',
      hint: `this kernel does not have ${since}`,
    })
  }
  const wanted = featuresToMask([...features, ...optional.filter((name) => available.has(name))])
  const { method, userModeOnly } = attempt
  const opened = native().uffdOpen(openMethods.indexOf(method), userModeOnly, wanted)
  if (typeof opened === 'number') throw kernelError(opened, 'userfaultfd', describe(attempt))
  if (!Array.isArray(opened)) return opened
  const names = [...featuresFromMask(wanted)].join(' | ')
  const hint = (wanted & featuresToMask(['EVENT_FORK'])) === 0n ? undefined : forkHint
  throw kernelError(opened[0], 'ioctl', `UFFDIO_API, ${names}`, hint)
}

function describe({ method, userModeOnly }: Attempt): string {
  const name = method === 'device' ? '/dev/userfaultfd' : 'userfaultfd(2)'
  return userModeOnly ? `${name} user-mode-only` : name
}

const forkHint =
  'EVENT_FORK needs CAP_SYS_PTRACE in this process, also if another process opened the descriptor'

/** Remedies for the open methods that were tried. */
function openHint({ method, userModeOnly }: UserfaultfdOptions): string {
  const answers = probeOpenMethods()
  const confinement = readConfinement()
  const tried = answers.filter(
    (answer) =>
      (method === undefined || answer.method === method) &&
      (userModeOnly === undefined ||
        answer.userModeOnly === userModeOnly ||
        answer.method === 'device'),
  )
  const remedies = tried.map((answer) => remedyFor(answer, answers, confinement))
  const isNarrowOpen = answers.some((answer) => answer.userModeOnly && answer.error === undefined)
  if (userModeOnly === false && isNarrowOpen) remedies.push('user-mode faults only')
  return `to enable it: ${joinRemedies(remedies)}`
}
