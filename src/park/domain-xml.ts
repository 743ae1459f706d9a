/**
 * Checks a domain XML of libvirt as far as an exported image needs it: one `<domain type=…>` with a
 * name and a uuid. Everything else is libvirt's to judge.
 */
import { PostcopyError } from '../errors.js'
import { printable } from '../printable.js'
import { formatByteSize } from '../units.js'

/** libvirt's own have a few KiB. */
export const MOST_XML_BYTES = 2 ** 20

/** A comment, a processing instruction, CDATA, a tag or text; anything else matches nothing. */
const TOKEN =
  /<!--[^]*?-->|<\?[^]*?\?>|<!\[CDATA\[[^]*?\]\]>|<\/?[A-Za-z_](?:"[^"<]*"|'[^'<]*'|[^"'<>])*>|[^<]+/y
const NAME = /^<\/?([\w.:-]+)/
const TYPE = /\stype\s*=\s*(?:"[^"]+"|'[^']+')/
const UUID = /^[\da-f]{8}-?(?:[\da-f]{4}-?){3}[\da-f]{12}$/i

/**
 * @param xml - text, or its bytes in UTF-8
 * @returns the bytes of the document
 * @throws PostcopyError `ERR_DOMAIN_XML`
 */
export function checkDomainXml(xml: string | Uint8Array): Uint8Array {
  const bytes = typeof xml === 'string' ? new TextEncoder().encode(xml) : xml
  if (bytes.length > MOST_XML_BYTES) {
    refuse(`it has ${formatByteSize(bytes.length)}, the limit is ${formatByteSize(MOST_XML_BYTES)}`)
  }
  let text
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return refuse('it is not UTF-8')
  }
  if (text.includes('\0')) refuse('it has a NUL')
  const { name, uuid } = childrenOf(text)
  if (name === undefined || name === '') refuse('it has no <name>')
  if (uuid === undefined) refuse('it has no <uuid>')
  if (!UUID.test(uuid)) refuse(`"${printable(uuid)}" is not a UUID`)
  return bytes
}

/** The text of `<name>` and `<uuid>`, which are children of `<domain>`. */
function childrenOf(text: string): { name?: string; uuid?: string } {
  const found: { name?: string; uuid?: string } = {}
  const open: string[] = []
  let isOver = false
  for (const token of tokens(text)) {
    if (!token.startsWith('<')) {
      const element = open[1]
      if (open.length === 0 && token.trim() !== '') refuse('it has text outside of <domain>')
      if (open.length === 2 && (element === 'name' || element === 'uuid')) {
        found[element] = token.trim()
      }
      continue
    }
    const tag = NAME.exec(token)?.[1]
    // A comment or an instruction.
    if (tag === undefined) continue
    if (token.startsWith('</')) {
      const expected = open.pop()
      if (tag !== expected)
        refuse(`</${printable(tag)}> does not end <${printable(expected ?? '')}>`)
      isOver = open.length === 0
      continue
    }
    if (isOver) refuse('it has further content after </domain>')
    if (open.length === 0) checkRoot(tag, token)
    if (!token.endsWith('/>')) open.push(tag)
  }
  if (!isOver) refuse('it ends before </domain>')
  return found
}

function checkRoot(tag: string, token: string): void {
  if (tag !== 'domain') refuse(`it begins with <${printable(tag)}>, not with <domain>`)
  if (!TYPE.test(token)) refuse('its <domain> has no type')
}

function* tokens(text: string): Generator<string> {
  TOKEN.lastIndex = 0
  for (let at = 0; at < text.length; at = TOKEN.lastIndex) {
    TOKEN.lastIndex = at
    const token = TOKEN.exec(text)?.[0]
    if (token === undefined) refuse(`it is not XML at "${printable(text.slice(at, at + 20))}"`)
    yield token
  }
}

function refuse(why: string): never {
  throw new PostcopyError('ERR_DOMAIN_XML', `this is not the XML of a libvirt domain: ${why}`)
}
