/**
 * Escapes untrusted text (names, machine types, messages of a peer, lines typed at a monitor) for a
 * terminal or a log. Control characters would steer the terminal, a line end would forge a line of
 * ours, and a change of direction would display a different text.
 */

/** Control and format characters (directions, zero width), line ends, lone surrogates. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu
const UNPRINTABLE_BUT_LINE_END = /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu

const NAME_LIMIT = 256
const MESSAGE_LIMIT = 16 * 1024

/**
 * Escapes a name or value into one line: an escape character becomes `\x1b`, a change of direction
 * `\u{202e}`.
 *
 * @param limit - characters to keep; the number of omitted ones is appended
 */
export function printable(text: string, limit = NAME_LIMIT): string {
  return bounded(text, limit).replaceAll(UNPRINTABLE, escaped)
}

/** Escapes text of several lines that contains untrusted text, but keeps the line ends. */
export function printableText(text: string): string {
  return text.replaceAll(UNPRINTABLE_BUT_LINE_END, escaped)
}

/**
 * Escapes a message and limits it to 16 Ki characters. Lines after the first are indented, so that
 * none looks like another message.
 */
export function printableMessage(text: string): string {
  return printableText(bounded(text, MESSAGE_LIMIT)).replaceAll(/\n(?! {2})/g, '\n  ')
}

/** Ends `text` with a full stop unless it ends with a mark, so that a sentence can follow. */
export function sentence(text: string): string {
  return /[.?!]$/.test(text) ? text : `${text}.`
}

/** As `JSON.stringify`, but also escapes characters that JSON may leave raw (C1, directions). */
export function printableJson(value: unknown): string {
  // Lone surrogates never match here: JSON.stringify has escaped them.
  return JSON.stringify(value).replaceAll(UNPRINTABLE, (character) =>
    Array.from(
      { length: character.length },
      (_, at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`,
    ).join(''),
  )
}

function bounded(text: string, limit: number): string {
  return text.length <= limit
    ? text
    : `${text.slice(0, limit)}… (${text.length - limit} characters more)`
}

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0
  const digits = code.toString(16)
  return code <= 0xff ? `\\x${digits.padStart(2, '0')}` : `\\u{${digits}}`
}
