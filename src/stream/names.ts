/**
 * Names on the wire are bytes; here they are text. A name in UTF-8 is decoded. In any other name,
 * each byte from 0x80 on becomes a lone surrogate, U+DC00 plus the byte. UTF-8 never decodes to a
 * lone surrogate, so each name has its own text, which encodes to the same bytes again.
 */

const ESCAPE = 0xdc00
const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const encoder = new TextEncoder()

/** The text of the name in `bytes[start..end)`. */
export function decodeName(bytes: Uint8Array, start = 0, end = bytes.length): string {
  const name = bytes.subarray(start, end)
  try {
    return utf8.decode(name)
  } catch {
    let text = ''
    for (const byte of name) text += String.fromCharCode(byte < 0x80 ? byte : ESCAPE + byte)
    return text
  }
}

/**
 * The bytes of a name.
 *
 * @throws RangeError for lone surrogates that {@link decodeName} never returns
 */
export function encodeName(text: string): Uint8Array {
  if (!LONE_SURROGATE.test(text)) return encoder.encode(text)
  const bytes = Uint8Array.from(text, (character) => {
    const code = character.charCodeAt(0)
    return code < 0x80 ? code : code - ESCAPE
  })
  if (decodeName(bytes) !== text) throw new RangeError(`${JSON.stringify(text)} is not a name`)
  return bytes
}
