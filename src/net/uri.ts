/** `tcp:HOST:PORT` and `unix:PATH`, QEMU's migration URIs. No other module parses them. */
import { PostcopyError } from '../errors.js'

export type MigrationUri =
  | { readonly type: 'tcp'; readonly host: string; readonly port: number }
  | { readonly type: 'unix'; readonly path: string }

/**
 * Most bytes of a unix socket's path: `sun_path` without the zero byte at its end. libuv truncates
 * a longer path without an error, so the socket would be a different one.
 *
 * @see unix(7)
 */
const MAX_UNIX_PATH_BYTES = 107

/** What an address is for, as error messages name it. */
export type UriKind = 'migration URI' | 'QMP address' | 'monitor address'

/** @throws PostcopyError `ERR_INVALID_URI`; its message has the accepted forms or the path limit */
export function parseUri(text: string, kind: UriKind = 'migration URI'): MigrationUri {
  if (text.startsWith('unix:')) return unixUri(text.slice('unix:'.length), kind)
  const tcp = /^tcp:(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text)
  const port = Number(tcp?.[3])
  if (tcp === null || port > 65535) throw invalid(text, kind, 'give tcp:HOST:PORT or unix:PATH')
  return { type: 'tcp', host: tcp[1] ?? tcp[2] ?? '', port }
}

/**
 * Makes the URI of a unix socket from its path.
 *
 * @throws PostcopyError `ERR_INVALID_URI` for a path that a socket address cannot hold
 */
export function unixUri(
  path: string,
  kind: UriKind = 'migration URI',
): Extract<MigrationUri, { type: 'unix' }> {
  const text = `unix:${path}`
  if (path === '') throw invalid(text, kind, 'the path is empty')
  if (path.includes('\0')) throw invalid(text, kind, 'the path contains a zero byte')
  const lengthBytes = Buffer.byteLength(path)
  if (lengthBytes > MAX_UNIX_PATH_BYTES) {
    throw invalid(
      text,
      kind,
      `the path has ${lengthBytes} bytes, but a unix socket's path has at most ${MAX_UNIX_PATH_BYTES}: choose a shorter one, or one relative to the working directory`,
    )
  }
  return { type: 'unix', path }
}

export function formatUri(uri: MigrationUri): string {
  if (uri.type === 'unix') return `unix:${uri.path}`
  return `tcp:${uri.host.includes(':') ? `[${uri.host}]` : uri.host}:${uri.port}`
}

function invalid(text: string, kind: UriKind, why: string): PostcopyError {
  return new PostcopyError('ERR_INVALID_URI', `"${text}" is not a ${kind}: ${why}`)
}
