/** The last message of a guest process about its guest. */
import type { GuestLocation, MigrationState } from '../migration/index.js'

interface End {
  readonly state: MigrationState
  readonly guestLocation: GuestLocation
}

export interface EndingGuest {
  /** The guest arrives by a migration. */
  readonly incoming: boolean
  readonly source: End | undefined
  readonly destination: End | undefined
  /**
   * Where the pages that the outgoing postcopy owed at the switch are, and how to continue from
   * there.
   */
  readonly spilled: { readonly path: string; readonly goOn: string } | undefined
}

/** Call after both ends are closed, because the guest may leave until then. */
export function lastWords({ incoming, source, destination, spilled }: EndingGuest): string {
  if (source !== undefined && source.guestLocation !== 'here') {
    return wordsOfSource(source, spilled)
  }
  if (!incoming || destination?.state === 'completed') return 'the guest ends'
  return destination?.guestLocation === 'here'
    ? 'the guest ends before all of its memory has been received'
    : 'no guest has arrived'
}

function wordsOfSource({ state, guestLocation }: End, spilled: EndingGuest['spilled']): string {
  const isKnown = guestLocation === 'elsewhere'
  const where = isKnown
    ? 'the guest is at the destination'
    : 'whether the destination has the guest is not known: check there (info status)'
  if (state === 'completed') return isKnown ? `${where}, with all of its memory` : where
  const pages = 'the pages that it has not received'
  const fate =
    spilled === undefined
      ? `${pages} are lost with this process`
      : `${pages} are in ${spilled.path}: ${spilled.goOn}`
  return isKnown ? `${where}; ${fate}` : `${where}; if so, ${fate}`
}
