/** What an addon says of its layouts and constants, and how that differs from TypeScript. */
import type { CallLayout, RowLayout } from '../../src/kernel/layout.js'

/** The result of the function `nativeInterface` of an addon (native/common/exports.h). */
export interface NativeInterface {
  calls: Record<string, { arguments: string[]; results: string[] }>
  rows: Record<string, string[]>
  constants: Record<string, number>
}

export interface DeclaredInterface {
  calls: readonly CallLayout[]
  rows: readonly RowLayout[]
  /** By group and name: `{ placeStop: { NONE: 0 } }` is the constant `placeStop.NONE`. */
  constants: Readonly<Record<string, Readonly<Record<string, number>>>>
}

type Entry = readonly [name: string, value: string]

/** The value of each name in a list that is in the order of the addon's numbers. */
export function inOrder(names: readonly string[]): Record<string, number> {
  return Object.fromEntries(names.map((name, index) => [name, index]))
}

/** One line for each difference. */
export function differences(native: NativeInterface, declared: DeclaredInterface): string[] {
  const calls = Object.entries(native.calls).flatMap(([name, call]): Entry[] => [
    [`arguments of ${name}`, call.arguments.join(', ')],
    [`results of ${name}`, call.results.join(', ')],
  ])
  const declaredCalls = declared.calls.flatMap((layout): Entry[] => [
    [`arguments of ${layout.call}`, layout.arguments.join(', ')],
    [`results of ${layout.call}`, layout.results.join(', ')],
  ])
  const rows = Object.entries(native.rows).map(([name, fields]): Entry => [
    `fields of ${name}`,
    fields.join(', '),
  ])
  const declaredRows = declared.rows.map(({ row, fields }): Entry => [
    `fields of ${row}`,
    fields.join(', '),
  ])
  const declaredConstants = Object.entries(declared.constants).flatMap(([group, numbers]) =>
    Object.entries(numbers).map(([name, value]): Entry => [`${group}.${name}`, String(value)]),
  )
  const constants = Object.entries(native.constants).map(([name, value]): Entry => [
    name,
    String(value),
  ])
  const ours = new Map<string, string>([...declaredCalls, ...declaredRows, ...declaredConstants])
  const theirs = new Map<string, string>([...calls, ...rows, ...constants])
  return [...new Set([...ours.keys(), ...theirs.keys()])].flatMap((what) => {
    const [own, other] = [ours.get(what), theirs.get(what)]
    if (own === other) return []
    return [`${what}: TypeScript ${describe(own)}, native code ${describe(other)}`]
  })
}

function describe(value: string | undefined): string {
  return value === undefined ? 'has none' : `[${value}]`
}
