/** Text that tells how to continue: a command to paste, and where its peer connects. */
import { parseUri } from '../net/index.js'
import { commandText } from './command-text.js'
import type { TlsOptions } from './options.js'

/** Options that the next command needs if the previous one had them. */
export interface KeptOptions extends TlsOptions {
  allowForeignDirectory?: boolean | undefined
  preempt?: boolean | undefined
}

/**
 * The command that continues, for a shell.
 *
 * @param words - name and arguments, such as `park`, a URI and `--recover DIR.incomplete`
 */
export function nextCommand(words: readonly string[], kept: KeptOptions): string {
  return commandText([
    'postcopy',
    ...words,
    ...(kept.tlsCreds === undefined ? [] : ['--tls-creds', kept.tlsCreds]),
    ...(kept.tlsHostname === undefined ? [] : ['--tls-hostname', kept.tlsHostname]),
    ...(kept.preempt === true ? ['--preempt'] : []),
    ...(kept.allowForeignDirectory === true ? ['--allow-foreign-directory'] : []),
  ])
}

/** The wildcard address of a host, in every spelling: a peer must use a real address instead. */
const WILDCARD = /^(?:::ffff:)?[0:.]+$/i

/** The URI for a peer of one that listens on `uri`; `tcp:HOST:PORT` if that is on every address. */
export function uriForPeer(uri: string): string {
  const parsed = parseUri(uri)
  return parsed.type === 'tcp' && WILDCARD.test(parsed.host) ? `tcp:HOST:${parsed.port}` : uri
}
