/** One migration between two machines of this process, and a record of its states. */
import { Destination, type DestinationOptions } from '../../src/destination/destination.js'
import type { PostcopyError } from '../../src/errors.js'
import { Guest, type GuestOptions } from '../../src/guest/index.js'
import type { MigratableMachine } from '../../src/migration/machine.js'
import type { Migration } from '../../src/migration/migration.js'
import type { MigrationOptions } from '../../src/migration/options.js'
import { type MigrationState, isAtRest, isFinal } from '../../src/migration/states.js'
import { Source, type SourceOptions } from '../../src/source/index.js'
import { cleanups } from './cleanup.js'

export const postcopy = { 'postcopy-ram': true } as const
/**
 * With these limits, precopy completes only if the guest writes nothing. Rounds of a few MiB last
 * long enough that a guest that writes does so in each of them, even on a busy host.
 */
export const noConvergence = { 'downtime-limit': 0, 'max-bandwidth': 16 * 2 ** 20 } as const
/** One batch, and then nothing until the limit is raised. */
export const standstill = { 'max-bandwidth': 1 } as const

/** The states of both ends of a whole migration by precopy, and by postcopy. */
export const precopyStates = {
  source: ['none', 'setup', 'active', 'device', 'completed'],
  destination: ['setup', 'active', 'completed'],
}
export const postcopyStates = {
  source: ['none', 'setup', 'active', 'device', 'postcopy-device', 'postcopy-active', 'completed'],
  destination: ['setup', 'active', 'postcopy-device', 'postcopy-active', 'completed'],
}

/** Listens on a port that the kernel chooses; closed after the test. */
export async function listenFor(
  machine: MigratableMachine,
  options: Partial<DestinationOptions> = {},
): Promise<Destination> {
  const destination = await Destination.listen(machine, { uri: 'tcp:127.0.0.1:0', ...options })
  cleanups.add(() => destination.close())
  return destination
}

/** Starts a migration that is closed after the test. */
export function migrateTo(
  uri: string,
  machine: MigratableMachine,
  options: Partial<SourceOptions> = {},
): Source {
  const source = Source.migrate(machine, { uri, ...options })
  cleanups.add(() => source.close())
  return source
}

/** The present state, and every later one. */
export function statesOf(migration: Migration): MigrationState[] {
  const states = [migration.state]
  migration.on('state', (state) => states.push(state))
  return states
}

/**
 * Waits until the migration is in one of these states. Any other final state is an error, and so
 * is a further pause.
 */
export async function reached(migration: Migration, ...wanted: MigrationState[]): Promise<void> {
  if (wanted.includes(migration.state)) return
  await new Promise<void>((resolve, reject) => {
    const look = (state: MigrationState, error?: PostcopyError): void => {
      if (wanted.includes(state)) resolve()
      else if (isAtRest(state)) {
        reject(new Error(`${state} instead of ${wanted.join(' or ')}`, { cause: error }))
      } else return
      migration.off('state', look)
    }
    migration.on('state', look)
    if (isFinal(migration.state)) look(migration.state, migration.error)
  })
}

/** Waits until a migration has ended, successfully or not. */
export function ended(migration: Migration): Promise<void> {
  return reached(migration, 'completed', 'failed', 'cancelled', 'postcopy-paused')
}

/** The code of the error with which a migration ended. */
export function codeOf(migration: Migration): string | undefined {
  return migration.error?.code
}

export interface Pair<M extends MigratableMachine> {
  readonly here: M
  readonly there: M
  readonly source: Source
  readonly destination: Destination
  readonly states: { source: MigrationState[]; destination: MigrationState[] }
}

export interface PairOptions extends MigrationOptions {
  /** Options of the destination only, where they differ. */
  readonly destination?: Partial<DestinationOptions>
  readonly source?: Partial<SourceOptions>
  /**
   * Gets the destination's URI, and returns the one that the source connects to,
   * such as a proxy's.
   */
  readonly via?: (uri: string) => Promise<string>
}

/** Starts a migration of `here` into `there`. */
export async function startPair<M extends MigratableMachine>(
  here: M,
  there: M,
  options: PairOptions = {},
): Promise<Pair<M>> {
  const { capabilities = {}, parameters = {} } = options
  const destination = await listenFor(there, { capabilities, parameters, ...options.destination })
  const destinationStates = statesOf(destination)
  const uri = (await options.via?.(destination.uri)) ?? destination.uri
  const source = migrateTo(uri, here, { capabilities, parameters, ...options.source })
  return {
    here,
    there,
    source,
    destination,
    states: { source: statesOf(source), destination: destinationStates },
  }
}

/** The same, until both ends have completed. */
export async function migratePair<M extends MigratableMachine>(
  here: M,
  there: M,
  options: PairOptions & { now?: boolean } = {},
): Promise<Pair<M>> {
  const pair = await startPair(here, there, options)
  if (options.now === true) pair.source.startPostcopy()
  await Promise.all([pair.source.done, pair.destination.done])
  return pair
}

/** A guest, and an empty one to migrate it into; both are closed after the test. */
export async function guestPair(
  options: Omit<GuestOptions, 'incoming'>,
): Promise<{ here: Guest; there: Guest }> {
  const here = await Guest.create(options)
  cleanups.add(() => here.close())
  const { ram, memory, vcpus } = options
  const there = await Guest.create({
    ram,
    incoming: true,
    ...(memory === undefined ? {} : { memory }),
    ...(vcpus === undefined ? {} : { vcpus }),
  })
  cleanups.add(() => there.close())
  return { here, there }
}
