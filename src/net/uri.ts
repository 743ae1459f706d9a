/** `tcp:HOST:PORT` and `unix:PATH`, QEMU's migration URIs. The only place that reads them. */
import { PostcopyError } from '../errors.js'

export type MigrationUri =
  | { readonly type: 'tcp'; readonly host: string; readonly port: number }
  | { readonly type: 'unix'; readonly path: string }

/**
 * Bytes of a unix socket's path: `sun_path` without the zero byte at its end. libuv truncates a
 * longer path without an error, and the socket is then another one.
 *
 * @see unix(7)
 */
const MAX_UNIX_PATH_BYTES = 107

/** What an address is for, in the message of one that is refused. */
export type UriKind = 'migration URI' | 'QMP address' | 'monitor address'

/** @throws PostcopyError `ERR_INVALID_URI` with the forms that are taken, or the limit of a path */
export function parseUri(text: string, kind: UriKind = 'migration URI'): MigrationUri {
  if (text.startsWith('unix:')) return unixUri(text.slice('unix:'.length), kind)
  const tcp = /^tcp:(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text)
  const port = Number(tcp?.[3])
  if (tcp === null || port > 65535) throw invalid(text, kind, 'give tcp:HOST:PORT or unix:PATH')
  return { type: 'tcp', host: tcp[1] ?? tcp[2] ?? '', port }
}

/**
 * The URI of a unix socket, for those that know its path only.
 *
 * @throws PostcopyError `ERR_INVALID_URI` for a path that the kernel would not take whole
 */
export function unixUri(
  path: string,
  kind: UriKind = 'migration URI',
): Extract<MigrationUri, { type: 'unix' }> {
  const text = `unix:${path}`
  if (path === '') throw invalid(text, kind, 'the path is empty')
  if (path.includes('\0')) throw invalid(text, kind, 'the path has a zero byte')
  const lengthBytes = Buffer.byteLength(path)
  if (lengthBytes > MAX_UNIX_PATH_BYTES) {
    throw invalid(
      text,
      kind,
      `the path has ${lengthBytes} bytes, that of a unix socket at most ${MAX_UNIX_PATH_BYTES}: choose a shorter one, or one relative to the working directory`,
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
