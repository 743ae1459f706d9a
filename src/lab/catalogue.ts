/** The experiments that ship with the package: one file per area, in the order of the report. */
import { compiledModule } from '../kernel/internal.js'
import { describeModule } from './describe.js'
import type { Described } from './describe.js'

/** Files in experiments/, without the extension. */
export const areas = [
  '01-opening',
  '02-register',
  '03-fill',
  '04-shortage',
  '05-faults',
  '06-reading',
  '07-fork',
  '10-events',
  '11-waiters',
  '12-kernel-faults',
  '13-huge-pages',
  '14-write-protect',
  '15-pagemap-scan',
  '16-trackers',
  '17-placement',
  '18-move',
  '19-latency',
  '20-selftest-fill',
  '21-selftest-write-protect',
  '22-selftest-faults',
  '23-selftest-stress',
] as const

/** Loads every experiment of the catalogue. */
export async function loadCatalogue(): Promise<Described[]> {
  const lists = await Promise.all(
    areas.map((area) => describeModule(compiledModule(`lab/experiments/${area}.js`).href)),
  )
  return lists.flat()
}
