/** The argument of `-blockdev` or `-object`: JSON, or `key=value` with dots for nested keys. */
import { OptionText } from './option-text.js'

type Json = Record<string, unknown>

export interface ObjectText {
  /** @param key - with dots, as in `file.filename` */
  get(key: string): string | undefined
  set(key: string, value: string): void
  /** Keys of the top level. */
  readonly keys: readonly string[]
  isOn(key: string): boolean
  toString(): string
}

/** @returns undefined for text that begins as JSON and is not an object */
export function parseObjectText(text: string): ObjectText | undefined {
  if (!text.startsWith('{')) {
    const options = OptionText.parse(text)
    if (options.implied !== undefined)
      options.set('driver', options.get('driver') ?? options.implied)
    return new DottedText(options)
  }
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? new JsonText(value) : undefined
  } catch {
    return undefined
  }
}

class DottedText implements ObjectText {
  readonly #options: OptionText

  constructor(options: OptionText) {
    this.#options = options
  }

  get keys(): string[] {
    return this.#options.keys.map((key) => key.replace(/\..*$/s, ''))
  }

  get(key: string): string | undefined {
    return this.#options.get(key)
  }

  set(key: string, value: string): void {
    this.#options.set(key, value)
  }

  isOn(key: string): boolean {
    return this.#options.isOn(key)
  }

  toString(): string {
    return this.#options.toString()
  }
}

class JsonText implements ObjectText {
  readonly #object: Json

  constructor(object: Json) {
    this.#object = object
  }

  get keys(): string[] {
    return Object.keys(this.#object)
  }

  get(key: string): string | undefined {
    const value = this.#find(key)
    return typeof value === 'string' ? value : undefined
  }

  set(key: string, value: string): void {
    const path = key.split('.')
    const last = path.pop() ?? ''
    const holder = path.reduce<unknown>((object, name) => member(object, name), this.#object)
    if (isObject(holder)) holder[last] = value
  }

  isOn(key: string): boolean {
    return this.#find(key) === true
  }

  toString(): string {
    return JSON.stringify(this.#object)
  }

  #find(key: string): unknown {
    return key.split('.').reduce<unknown>((object, name) => member(object, name), this.#object)
  }
}

function member(object: unknown, name: string): unknown {
  return isObject(object) && Object.hasOwn(object, name) ? object[name] : undefined
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
