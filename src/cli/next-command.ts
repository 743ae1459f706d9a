/** What a message says of how to go on: a command to paste, and where its peer connects. */
import { parseUri } from '../net/index.js'
import { commandText } from './command-text.js'
import type { TlsOptions } from './options.js'

/** Options that a command needs again where the one before it had them. */
export interface KeptOptions extends TlsOptions {
  allowForeignDirectory?: boolean | undefined
  preempt?: boolean | undefined
}

/**
 * The command that goes on, for a shell.
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

/** All addresses of a host, in every spelling: a peer has to name one of them. */
const WILDCARD = /^(?:::ffff:)?[0:.]+$/i

/** What a peer connects to, of a URI that is listened on: `tcp:HOST:PORT` for every address of this host. */
export function uriForPeer(uri: string): string {
  const parsed = parseUri(uri)
  return parsed.type === 'tcp' && WILDCARD.test(parsed.host) ? `tcp:HOST:${parsed.port}` : uri
}
