/**
 * Text of others (names, machine types, messages of a peer, lines typed at a monitor) for a terminal
 * or a log. Control characters would steer the terminal, a line end would forge a line of ours,
 * and a change of direction would show text that is not there.
 */

/** Controls, formats (directions, zero width), line and paragraph ends, halves of surrogate pairs. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu
const UNPRINTABLE_BUT_LINE_END = /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu

const NAME_LIMIT = 256
const MESSAGE_LIMIT = 16 * 1024

/**
 * One name or value in one line: `\x1b` stands for an escape character, `\u{202e}` for a change of
 * direction.
 *
 * @param limit - characters to keep; the number of the others is stated
 */
export function printable(text: string, limit = NAME_LIMIT): string {
  return bounded(text, limit).replaceAll(UNPRINTABLE, escaped)
}

/** Lines that this package has laid out, with text of others in them: line ends stay. */
export function printableText(text: string): string {
  return text.replaceAll(UNPRINTABLE_BUT_LINE_END, escaped)
}

/** A message of at most 16 KiB. Lines after the first are indented, so none can pass for another message. */
export function printableMessage(text: string): string {
  return printableText(bounded(text, MESSAGE_LIMIT)).replaceAll(/\n(?! {2})/g, '\n  ')
}

/** A message that another sentence follows: it ends with one mark. */
export function sentence(text: string): string {
  return /[.?!]$/.test(text) ? text : `${text}.`
}

/** As `JSON.stringify`; what JSON may leave raw (8-bit controls, directions) is escaped, too. */
export function printableJson(value: unknown): string {
  // Half of a surrogate pair never matches here: JSON.stringify has escaped it.
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
