/** `key=value,key=value`: the options of QEMU's command line. A comma in a value is doubled. */

export class OptionText {
  readonly #pairs: [key: string, value: string | undefined][]

  private constructor(pairs: [string, string | undefined][]) {
    this.#pairs = pairs
  }

  static parse(text: string): OptionText {
    const pieces = text.match(/(?:[^,]|,,)+/g) ?? []
    return new OptionText(
      pieces.map((piece) => {
        const [, key, value] = /^([^=,]+)=(.*)$/s.exec(piece) ?? []
        return key === undefined ? [unescaped(piece), undefined] : [key, unescaped(value ?? '')]
      }),
    )
  }

  /** The first word, if it has no `=`: an implied key such as `backend` of `-chardev`. */
  get implied(): string | undefined {
    const [first] = this.#pairs
    return first?.[1] === undefined ? first?.[0] : undefined
  }

  setImplied(word: string): void {
    this.#pairs[0] = [word, undefined]
  }

  get keys(): string[] {
    return this.#pairs.map(([key]) => key)
  }

  /** The last one counts, as in QEMU. A key without a value is `on`. */
  get(key: string): string | undefined {
    const pair = this.#pairs.findLast(([name]) => name === key)
    return pair === undefined ? undefined : (pair[1] ?? 'on')
  }

  isOn(key: string): boolean {
    return ['on', 'true', 'yes'].includes(this.get(key) ?? '')
  }

  set(key: string, value: string): void {
    this.delete(key)
    this.#pairs.push([key, value])
  }

  delete(key: string): void {
    for (let at = this.#pairs.length - 1; at >= 0; at -= 1) {
      if (this.#pairs[at]?.[0] === key) this.#pairs.splice(at, 1)
    }
  }

  toString(): string {
    return this.#pairs
      .map(([key, value]) => (value === undefined ? escaped(key) : `${key}=${escaped(value)}`))
      .join(',')
  }
}

/** Doubles commas, as in `path=a,,b`. */
export function escaped(value: string): string {
  return value.replaceAll(',', ',,')
}

function unescaped(value: string): string {
  return value.replaceAll(',,', ',')
}
