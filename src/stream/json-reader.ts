/**
 * Reads untrusted JSON in place. It builds no objects, so it needs memory only for the nesting,
 * which is limited. `JSON.parse` takes up to 100 times the bytes of its text.
 */
import { isUtf8 } from 'node:buffer'

/** Nested brackets. QEMU's descriptions have fewer than 20 levels. */
const MAX_DEPTH = 128
/** Most bytes of a string or number that the caller reads. */
const MAX_TOKEN_BYTES = 1024

const SPACE = 0x20
const QUOTE = 0x22
const COMMA = 0x2c
const MINUS = 0x2d
const DOT = 0x2e
const ZERO = 0x30
const NINE = 0x39
const COLON = 0x3a
const OPEN_BRACKET = 0x5b
const BACKSLASH = 0x5c
const CLOSE_BRACKET = 0x5d
const LETTER_E = 0x65
const LETTER_U = 0x75
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
/** Bit that makes an ASCII letter lower case. */
const SMALL = 0x20

const BLANKS: ReadonlySet<number> = new Set([SPACE, 0x09, 0x0a, 0x0d])
const ESCAPES: ReadonlySet<number> = new Set(Buffer.from('"\\/bfnrt'))
const HEX_DIGITS: ReadonlySet<number> = new Set(Buffer.from('0123456789abcdefABCDEF'))
const LITERALS = ['true', 'false', 'null'].map((text) => Buffer.from(text))

/** Reads values in the order of the text. Every method throws SyntaxError for any other value. */
export class JsonReader {
  readonly #bytes: Uint8Array
  #at = 0
  #depth = 0

  /** @throws SyntaxError if `bytes` are not UTF-8 */
  constructor(bytes: Uint8Array) {
    if (!isUtf8(bytes)) throw new SyntaxError('not UTF-8')
    this.#bytes = bytes
  }

  /** Checks a value of any kind and skips it. */
  skip(): void {
    const byte = this.#peek()
    if (byte === OPEN_BRACE) this.#members(() => this.skip())
    else if (byte === OPEN_BRACKET) this.array(() => this.skip())
    else if (byte === QUOTE) this.#string()
    else if (byte === MINUS || isDigit(byte)) this.#number()
    else this.#literal()
  }

  /** @param member - reads the value of a member; a name beyond MAX_TOKEN_BYTES is passed as '' */
  object(member: (name: string) => void): void {
    this.#members((start, end) => {
      const isName = end - start <= MAX_TOKEN_BYTES
      member(isName ? (JSON.parse(this.#slice(start, end)) as string) : '')
    })
  }

  /** @param item - reads a value */
  array(item: () => void): void {
    this.#bracketed(OPEN_BRACKET, CLOSE_BRACKET, item)
  }

  text(): string {
    return JSON.parse(this.#slice(this.#string())) as string
  }

  /** Reads a nonnegative safe integer. */
  count(): number {
    this.#peek()
    const start = this.#at
    this.#number()
    const value = Number(this.#slice(start))
    if (!Number.isSafeInteger(value) || value < 0) fail('not a count')
    return value
  }

  /** Checks that only blanks follow. */
  end(): void {
    this.#blanks()
    if (this.#at < this.#bytes.length) fail('data after the value')
  }

  /** @param member - gets start and end of the quoted name, and reads the value */
  #members(member: (start: number, end: number) => void): void {
    this.#bracketed(OPEN_BRACE, CLOSE_BRACE, () => {
      const start = this.#string()
      const end = this.#at
      this.#expect(COLON)
      member(start, end)
    })
  }

  #bracketed(open: number, close: number, item: () => void): void {
    this.#expect(open)
    this.#depth += 1
    if (this.#depth > MAX_DEPTH) fail('nested too deeply')
    if (this.#peek() !== close) {
      item()
      while (this.#peek() === COMMA) {
        this.#at += 1
        item()
      }
    }
    this.#expect(close)
    this.#depth -= 1
  }

  /** Skips a string. @returns the index of its opening quote */
  #string(): number {
    this.#expect(QUOTE)
    const start = this.#at - 1
    for (;;) {
      const byte = this.#next()
      if (byte === QUOTE) return start
      if (byte < SPACE) fail('a control character, or a string without an end')
      if (byte === BACKSLASH) this.#escape()
    }
  }

  #escape(): void {
    const byte = this.#next()
    if (ESCAPES.has(byte)) return
    if (byte !== LETTER_U) fail('an invalid escape')
    for (let digit = 0; digit < 4; digit += 1) {
      if (!HEX_DIGITS.has(this.#next())) fail('an invalid escape')
    }
  }

  #number(): void {
    if (this.#byte() === MINUS) this.#at += 1
    if (this.#byte() === ZERO) this.#at += 1
    else this.#digits()
    if (this.#byte() === DOT) {
      this.#at += 1
      this.#digits()
    }
    if ((this.#byte() | SMALL) === LETTER_E) {
      this.#at += 1
      if (this.#byte() === MINUS || this.#byte() === 0x2b) this.#at += 1
      this.#digits()
    }
  }

  #digits(): void {
    if (!isDigit(this.#byte())) fail('a number without digits')
    while (isDigit(this.#byte())) this.#at += 1
  }

  #literal(): void {
    const found = LITERALS.find((text) =>
      text.equals(this.#bytes.subarray(this.#at, this.#at + text.length)),
    )
    this.#at += found?.length ?? fail('not a value')
  }

  #slice(start: number, end = this.#at): string {
    if (end - start > MAX_TOKEN_BYTES) fail('too long')
    return Buffer.from(this.#bytes.subarray(start, end)).toString()
  }

  #expect(byte: number): void {
    if (this.#peek() !== byte) fail(`${String.fromCharCode(byte)} is missing`)
    this.#at += 1
  }

  /** The next byte that is not a blank; does not consume it. */
  #peek(): number {
    this.#blanks()
    return this.#byte()
  }

  #blanks(): void {
    while (BLANKS.has(this.#byte())) this.#at += 1
  }

  #next(): number {
    const byte = this.#byte()
    this.#at += 1
    return byte
  }

  /** -1 at the end. */
  #byte(): number {
    return this.#bytes[this.#at] ?? -1
  }
}

/** Whether `text` is a JSON object, as every description of QEMU is. */
export function isJsonObject(text: Uint8Array): boolean {
  if (text[0] !== OPEN_BRACE || text[text.length - 1] !== CLOSE_BRACE) return false
  try {
    const reader = new JsonReader(text)
    reader.skip()
    reader.end()
    return true
  } catch (error) {
    if (error instanceof SyntaxError) return false
    throw error
  }
}

function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= NINE
}

function fail(what: string): never {
  throw new SyntaxError(what)
}
