/** What a guest process says of its guest when it ends. */
import type { GuestLocation, MigrationState } from '../migration/index.js'

interface End {
  readonly state: MigrationState
  readonly guestLocation: GuestLocation
}

export interface EndingGuest {
  /** The guest comes by a migration. */
  readonly incoming: boolean
  readonly source: End | undefined
  readonly destination: End | undefined
  /** Where all pages are that the outgoing postcopy owed at the switch, and how to go on from there. */
  readonly spilled: { readonly path: string; readonly goOn: string } | undefined
}

/** Call after both ends are closed: until then, the guest may still leave. */
export function lastWords({ incoming, source, destination, spilled }: EndingGuest): string {
  if (source !== undefined && source.guestLocation !== 'here') {
    return wordsOfSource(source, spilled)
  }
  if (!incoming || destination?.state === 'completed') return 'the guest ends'
  return destination?.guestLocation === 'here'
    ? 'the guest ends before all of its memory has arrived'
    : 'no guest has arrived'
}

function wordsOfSource({ state, guestLocation }: End, spilled: EndingGuest['spilled']): string {
  const isKnown = guestLocation === 'elsewhere'
  const where = isKnown
    ? 'the guest is at the destination'
    : 'whether the destination has the guest is not known: ask there (info status)'
  if (state === 'completed') return isKnown ? `${where}, with all of its memory` : where
  const pages = 'the pages that it has not received'
  const fate =
    spilled === undefined
      ? `${pages} are lost with this process`
      : `${pages} are in ${spilled.path}: ${spilled.goOn}`
  return isKnown ? `${where}; ${fate}` : `${where}; if so, ${fate}`
}
