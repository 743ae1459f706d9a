/** Chooses at random, from a seed, a guest and the breaks of each of its migrations. */
import { Random } from './random.js'

/** Each guest is migrated this many times; then another one replaces it. */
export const LEGS_OF_A_LIFE = 25

export interface GuestPlan {
  readonly ram: string
  readonly vcpus: number
  readonly workload: string
}

/** How one connection breaks. */
export type Break =
  /** Both sides are reset. */
  | { readonly kind: 'cut'; readonly when: When; readonly afterMs: number }
  /** The link lets this many bytes of the source through, and then cuts the connection. */
  | { readonly kind: 'cut at a byte'; readonly bytes: number }
  /** The link passes nothing for a while, and then continues: neither end may lose data. */
  | Interruption<'silence'>
  /** The same by pulling the cable, which loses packets in flight. */
  | Interruption<'link down'>
  /** The cable is out, and both ends are told to pause before it is plugged in again. */
  | Interruption<'link down, paused'>
  | Interruption<'source stopped'>
  | Interruption<'destination stopped'>
  | { readonly kind: 'paused by source'; readonly when: When; readonly afterMs: number }
  | { readonly kind: 'paused by destination'; readonly when: When; readonly afterMs: number }
  | { readonly kind: 'cancelled'; readonly when: When; readonly afterMs: number }
  | { readonly kind: 'destination killed'; readonly when: When; readonly afterMs: number }

interface Interruption<K extends string> {
  readonly kind: K
  readonly when: When
  readonly afterMs: number
  readonly forMs: number
}

/**
 * After the command, the connection, the guest's stop at the source, or
 * its start at the destination.
 */
export type When = 'connecting' | 'begun' | 'switching' | 'switched'

/** How the source connects: through the link that can be cut, directly, or by a unix socket. */
export type Route = 'link' | 'direct' | 'unix'

/** One connection and its break. The last one of a leg has no break. */
export interface ConnectionPlan {
  readonly route: Route
  readonly break?: Break
}

export interface LegPlan {
  readonly memory: 'anon' | 'memfd'
  readonly capabilities: readonly string[]
  /** For both ends. */
  readonly parameters: Readonly<Record<string, string>>
  /** Milliseconds of precopy before the switch; undefined: precopy only. */
  readonly postcopyAfterMs: number | undefined
  /** Both ends recover by themselves. */
  readonly isAutomatic: boolean
  readonly connections: readonly ConnectionPlan[]
}

/** @param life - number of the guest */
export function planGuest(seed: number, life: number): GuestPlan {
  const random = new Random(seed, 1_000_003 + life)
  const vcpus = random.integer(1, 3)
  const pattern = random.pick(['sweep', 'random', 'random', 'zipf', 'chase'])
  const [writes, rate] = [random.integer(5, 60), random.integer(2, 20) * 1000]
  const fill = random.pick([100, 100, 70])
  const options = `writes=${writes},rate=${rate},fill=${fill},seed=${random.integer(1, 1e6)}`
  return { ram: `${random.integer(16, 64)}M`, vcpus, workload: `${pattern}:${options}` }
}

/** @param hasCable - whether the two hosts have one */
export function planLeg(seed: number, leg: number, hasCable: boolean): LegPlan {
  const random = new Random(seed, leg)
  const isPostcopy = random.chance(0.9)
  const isAutomatic = isPostcopy && random.chance(0.15)
  const capabilities = [isPostcopy ? 'postcopy-ram' : 'return-path']
  if (isPostcopy && random.chance(0.3)) capabilities.push('postcopy-preempt')
  if (isAutomatic) capabilities.push('x-auto-recover')
  const breaks = Array.from({ length: random.integer(0, 6) }, () =>
    isAutomatic ? cutBehindSwitch(random) : planBreak(random, isPostcopy, hasCable),
  )
  const plan = {
    memory: random.pick(['anon', 'memfd'] as const),
    capabilities,
    parameters: {
      // Slow enough that most breaks happen during the migration, and that most
      // pages are left to postcopy.
      'max-bandwidth': isPostcopy ? `${random.magnitude(5, 200)}M` : '0',
      'max-postcopy-bandwidth': random.chance(0.2) ? '0' : `${random.magnitude(5, 100)}M`,
      'downtime-limit': isPostcopy && random.chance(0.8) ? '0' : '300',
      'x-recover-delay': String(random.integer(1, 100)),
      // Shorter than most interruptions, or longer than all of them.
      'x-silence-timeout': random.chance(0.25) ? '100' : '15000',
    },
    postcopyAfterMs: isPostcopy ? random.magnitude(1, 400) - 1 : undefined,
    isAutomatic,
  }
  const broken = breaks.map((one) => ({ route: routeFor(random, one), break: one }))
  const isImpatient = plan.parameters['x-silence-timeout'] !== '15000'
  const whole = Array.from({ length: isImpatient ? MOST_WHOLE : 1 }, () => WHOLE)
  return { ...plan, connections: [...broken, ...whole] }
}

const WHOLE: ConnectionPlan = { route: 'link' }
/**
 * With a short timeout, an unbroken link on a busy host can time out too,
 * so it may take several tries.
 */
const MOST_WHOLE = 20

function cutBehindSwitch(random: Random): Break {
  return { kind: 'cut', when: 'switched', afterMs: random.magnitude(1, 500) - 1 }
}

function planBreak(random: Random, isPostcopy: boolean, hasCable: boolean): Break {
  const before = random.pick<When>(['begun', 'begun', 'begun', 'connecting'])
  const when: When = isPostcopy && random.chance(0.7) ? 'switched' : before
  const afterMs = random.magnitude(1, 500) - 1
  const forMs = random.magnitude(10, 800)
  const kind = random.pick([
    ...(['cut', 'cut', 'cut at a byte', 'cut at a byte', 'silence'] as const),
    ...(['source stopped', 'destination stopped'] as const),
    ...(hasCable ? (['link down', 'link down, paused', 'link down, paused'] as const) : []),
    ...(isPostcopy ? (['paused by source', 'paused by destination'] as const) : []),
    ...(when === before ? (['cancelled', 'destination killed'] as const) : []),
  ])
  switch (kind) {
    case 'cut at a byte':
      return { kind, bytes: random.magnitude(1, 64 * 2 ** 20) }
    case 'cut':
    case 'paused by source':
    case 'paused by destination':
    case 'cancelled':
    case 'destination killed':
      return { kind, when, afterMs }
    default:
      return { kind, when, afterMs, forMs }
  }
}

/**
 * A break of the link only affects a connection through the link. If the cable is pulled, the
 * connection must be direct: otherwise the link would notice the loss, and it waits for ever.
 */
function routeFor(random: Random, { kind }: Break): Route {
  if (kind === 'cut' || kind === 'cut at a byte' || kind === 'silence') return 'link'
  if (kind === 'link down' || kind === 'link down, paused') return 'direct'
  return random.pick(['link', 'direct', 'unix'])
}
