/** Checks a command's arguments, with QEMU's error texts. */
import { QmpError } from './errors.js'

/** Returns the typed value. `path` names it as QEMU does: `capabilities[0].state`. */
export type Check<T> = (value: unknown, path: string) => T

export interface Field<T> {
  readonly check: Check<T>
  readonly isOptional: boolean
}

export type ArgumentFields = Readonly<Record<string, Field<unknown>>>

export type Checked<F extends ArgumentFields> = {
  readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never
}

export function required<T>(check: Check<T>): Field<T> {
  return { check, isOptional: false }
}

export function optional<T>(check: Check<T>): Field<T | undefined> {
  return { check, isOptional: true }
}

export const string: Check<string> = (value, path) =>
  typeof value === 'string' ? value : wrongType(path, 'string')

export const boolean: Check<boolean> = (value, path) =>
  typeof value === 'boolean' ? value : wrongType(path, 'boolean')

/** Whole numbers up to 2^53; larger ones would not be exact, and no argument needs them. */
export const uint64: Check<number> = (value, path) => {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value
  throw new QmpError(`Parameter '${path}' expects uint64`)
}

/** @param names - the possible values */
export function oneOf(names: readonly string[]): Check<string> {
  return (value, path) => {
    const name = string(value, path)
    if (names.includes(name)) return name
    const leaf = path.slice(path.lastIndexOf('.') + 1)
    throw new QmpError(`Parameter '${leaf}' does not accept value '${name}'`)
  }
}

export function array<T>(item: Check<T>): Check<readonly T[]> {
  return (value, path) =>
    Array.isArray(value)
      ? value.map((element: unknown, index) => item(element, `${path}[${index}]`))
      : wrongType(path, 'array')
}

export function object<F extends ArgumentFields>(fields: F): Check<Checked<F>> {
  return (value, path) => {
    if (!isObject(value)) return wrongType(path, 'object')
    const prefix = path === '' ? '' : `${path}.`
    const checked: Record<string, unknown> = {}
    for (const [name, { check, isOptional }] of Object.entries(fields)) {
      if (Object.hasOwn(value, name)) checked[name] = check(value[name], `${prefix}${name}`)
      else if (!isOptional) throw new QmpError(`Parameter '${prefix}${name}' is missing`)
    }
    const unexpected = Object.keys(value).find((name) => !Object.hasOwn(fields, name))
    if (unexpected !== undefined) {
      throw new QmpError(`Parameter '${prefix}${unexpected}' is unexpected`)
    }
    return checked as Checked<F>
  }
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function wrongType(path: string, expected: string): never {
  throw new QmpError(`Invalid parameter type for '${path}', expected: ${expected}`)
}
