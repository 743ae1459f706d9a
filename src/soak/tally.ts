/** Counts what a soak has done so far. */
import Table from 'cli-table3'
import type { Break, Route } from './plan.js'

const totals = {
  guests: 'guests',
  migrations: 'migrations',
  switches: 'of them by postcopy',
  failed: 'migrations that failed, or were cancelled, and left the guest running at the source',
  takenBack: 'of them stopped there, because the result was not known, and taken back (cont -f)',
  unconfirmed: 'migrations whose SHUT 0 was lost, with the guest at the destination',
  pages: 'pages moved',
  faults: 'page faults served over the network',
  verified: 'checks of every page, all of them right',
  verifiedPages: 'pages checked',
} as const

export type Total = keyof typeof totals
export type BreakKind = Break['kind']
export type RecoveryKind = `by hand, ${Route}` | 'by itself'

export class Tally {
  readonly #totals = new Map<Total, number>()
  readonly #breaks = new Map<BreakKind, number>()
  readonly #recoveries = new Map<RecoveryKind, number>()

  add(total: Total, count = 1): void {
    this.#totals.set(total, this.total(total) + count)
  }

  total(total: Total): number {
    return this.#totals.get(total) ?? 0
  }

  addBreak(kind: BreakKind): void {
    this.#breaks.set(kind, (this.#breaks.get(kind) ?? 0) + 1)
  }

  addRecovery(kind: RecoveryKind): void {
    this.#recoveries.set(kind, (this.#recoveries.get(kind) ?? 0) + 1)
  }

  get breaks(): number {
    return sum(this.#breaks)
  }

  get recoveries(): number {
    return sum(this.#recoveries)
  }

  /** A summary in one line. */
  get summary(): string {
    const { breaks, recoveries } = this
    return (
      `${this.total('migrations')} migrations, ${this.total('switches')} by postcopy; ` +
      `${breaks} breaks, ${recoveries} recoveries; verified ${this.total('verified')} times`
    )
  }

  get table(): string {
    const table = new Table({
      style: { head: [], border: [] },
      chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    })
    const group = (title: string, counts: readonly (readonly [string, number])[]): void => {
      table.push(['', title])
      for (const [name, count] of counts) {
        table.push([{ content: count.toLocaleString('en'), hAlign: 'right' }, `  ${name}`])
      }
    }
    group(
      'survived',
      Object.entries(totals).map(([key, name]) => [name, this.total(key as Total)]),
    )
    group(`${this.breaks} breaks`, sorted(this.#breaks))
    group(`${this.recoveries} recoveries`, sorted(this.#recoveries))
    return table.toString()
  }
}

function sum(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((before, count) => before + count, 0)
}

function sorted(counts: ReadonlyMap<string, number>): [string, number][] {
  return [...counts].sort(([one], [other]) => one.localeCompare(other))
}
