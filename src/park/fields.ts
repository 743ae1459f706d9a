/** Reads untrusted JSON. */
import { PostcopyError } from '../errors.js'

/** Most characters that a message quotes from the input. */
const MOST_QUOTED = 200

/**
 * Each list or object takes up to 100 times its bytes in memory. The limit fits the largest
 * manifest, even with brackets in all of its names.
 */
const MOST_BRACKETS = 2 ** 19

/**
 * @throws PostcopyError `code` for text that is not JSON, or not an object, or has too many
 *   brackets
 */
export function parseFields(text: string, path: string, code: string): UntrustedFields {
  if (countOf(text, '{') + countOf(text, '[') > MOST_BRACKETS) {
    throw new PostcopyError(code, `${path} has more than ${MOST_BRACKETS} lists and objects`)
  }
  let whole: unknown
  try {
    whole = JSON.parse(text)
  } catch (error) {
    throw new PostcopyError(code, `${path} is not JSON`, { cause: error })
  }
  return new UntrustedFields(whole, path, code)
}

/** The members of an untrusted object, each checked when it is read. */
export class UntrustedFields {
  readonly #object: Readonly<Record<string, unknown>>
  readonly #where: string
  readonly #code: string

  /** @param code - of every error */
  constructor(value: unknown, where: string, code: string) {
    this.#where = where
    this.#code = code
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new PostcopyError(code, `${where} must be an object`)
    }
    this.#object = value as Readonly<Record<string, unknown>>
  }

  raw(key: string): unknown {
    return this.#object[key]
  }

  refuse(key: string, expected: string): never {
    const found = (JSON.stringify(this.#object[key]) as string | undefined)?.slice(0, MOST_QUOTED)
    throw new PostcopyError(
      this.#code,
      `${this.#where}: ${key} must be ${expected}, not ${found ?? 'missing'}`,
    )
  }

  text(key: string): string {
    const value = this.raw(key)
    return typeof value === 'string' ? value : this.refuse(key, 'text')
  }

  count(key: string, most = Number.MAX_SAFE_INTEGER): number {
    const value = this.raw(key)
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0 || value > most) {
      this.refuse(key, most === Number.MAX_SAFE_INTEGER ? 'a count' : `a count of at most ${most}`)
    }
    return value
  }

  oneOf<T extends string>(key: string, choices: readonly T[]): T {
    const value = this.raw(key)
    return choices.find((choice) => choice === value) ?? this.refuse(key, choices.join(' or '))
  }

  /** A file in the directory itself, because a manifest must not lead anywhere else. */
  fileName(key: string): string {
    const value = this.text(key)
    return /^[a-z0-9][a-z0-9.-]*$/.test(value) ? value : this.refuse(key, 'a plain file name')
  }

  object(key: string): UntrustedFields {
    return new UntrustedFields(this.raw(key), `${this.#where}: ${key}`, this.#code)
  }

  optional(key: string): UntrustedFields | undefined {
    return this.raw(key) === undefined ? undefined : this.object(key)
  }

  objects(key: string): UntrustedFields[] {
    const value = this.raw(key)
    if (!Array.isArray(value) || value.length === 0) this.refuse(key, 'a non-empty list')
    return value.map((entry, index) => {
      return new UntrustedFields(entry, `${this.#where}: ${key}[${index}]`, this.#code)
    })
  }
}

function countOf(text: string, bracket: string): number {
  let count = 0
  for (let at = text.indexOf(bracket); at !== -1; at = text.indexOf(bracket, at + 1)) count += 1
  return count
}
