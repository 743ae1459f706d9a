/** Counts how the pages of an incoming migration arrived, in total and in a grid for maps. */
import type { Destination, PageArrivals } from '../destination/index.js'

/** Target pages by how they arrived. */
export interface ArrivalCounts {
  /** In precopy, and still valid at the switch. */
  precopied: number
  /** Requested by a fault. */
  requested: number
  /** In postcopy, without a request. */
  pushed: number
}

/**
 * One RAM block, divided into cells of equally many consecutive pages (the last may be shorter).
 */
export interface BlockArrivals extends ArrivalCounts {
  block: string
  pages: number
  pagesPerCell: number
  cells: ArrivalCounts[]
}

/**
 * Whether the destination has taken a package. Before, and in plain precopy, all pages are
 * precopied.
 */
export function hasSwitched({ faults, state }: Destination): boolean {
  return faults !== undefined || state.startsWith('postcopy-')
}

export function countArrivals(destination: Destination): ArrivalCounts {
  const counts = { precopied: 0, requested: 0, pushed: 0 }
  for (const arrivals of destination.pageArrivals) {
    const own = countRange(arrivals, 0, arrivals.pageCount, hasSwitched(destination))
    counts.precopied += own.precopied
    counts.requested += own.requested
    counts.pushed += own.pushed
  }
  return counts
}

/** @param cells - most cells of one block; 0 for totals only */
export function mapArrivals(destination: Destination, cells: number): BlockArrivals[] {
  const switched = hasSwitched(destination)
  return destination.pageArrivals.map((arrivals) => {
    const { name, pageCount } = arrivals
    const pagesPerCell = Math.max(1, Math.ceil(pageCount / Math.max(1, cells)))
    const count = cells === 0 ? 0 : Math.ceil(pageCount / pagesPerCell)
    return {
      block: name,
      pages: pageCount,
      ...countRange(arrivals, 0, pageCount, switched),
      pagesPerCell,
      cells: Array.from({ length: count }, (_, cell) => {
        const from = cell * pagesPerCell
        return countRange(arrivals, from, Math.min(pageCount, from + pagesPerCell), switched)
      }),
    }
  })
}

function countRange(
  arrivals: PageArrivals,
  from: number,
  to: number,
  switched: boolean,
): ArrivalCounts {
  const received = arrivals.received.count(from, to)
  if (!switched) return { precopied: received, requested: 0, pushed: 0 }
  const precopied = arrivals.precopied.count(from, to)
  const requested = arrivals.requested.count(from, to)
  // A page that is requested but not here yet makes this slightly low during postcopy.
  return { precopied, requested, pushed: Math.max(0, received - precopied - requested) }
}
