/** `tcp:HOST:PORT` and `unix:PATH`, QEMU's migration URIs. */
import { PostcopyError } from '../errors.js'

export type MigrationUri =
  | { readonly type: 'tcp'; readonly host: string; readonly port: number }
  | { readonly type: 'unix'; readonly path: string }

/** @throws PostcopyError `ERR_INVALID_URI` with the forms that are taken */
export function parseUri(text: string): MigrationUri {
  const unix = /^unix:(.+)$/.exec(text)?.[1]
  if (unix !== undefined) return { type: 'unix', path: unix }
  const tcp = /^tcp:(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text)
  const port = Number(tcp?.[3])
  if (tcp === null || port > 65535) {
    throw new PostcopyError(
      'ERR_INVALID_URI',
      `"${text}" is not a migration URI: give tcp:HOST:PORT or unix:PATH`,
    )
  }
  return { type: 'tcp', host: tcp[1] ?? tcp[2] ?? '', port }
}

export function formatUri(uri: MigrationUri): string {
  if (uri.type === 'unix') return `unix:${uri.path}`
  return `tcp:${uri.host.includes(':') ? `[${uri.host}]` : uri.host}:${uri.port}`
}
