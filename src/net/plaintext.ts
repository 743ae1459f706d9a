/** Whether guest memory crosses a network unencrypted. */
import net from 'node:net'
import type { ConnectionParameters } from './parameters.js'
import type { MigrationUri } from './uri.js'

const loopback = new net.BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/** Whether `uri` may be an address of another host, and TLS is off. */
export function isPlaintext(uri: MigrationUri, parameters: ConnectionParameters): boolean {
  return uri.type === 'tcp' && parameters['tls-creds'] === '' && !isLoopback(uri.host)
}

/** A host name other than `localhost` may resolve to any address. */
function isLoopback(host: string): boolean {
  if (host === '' || host === 'localhost') return true
  const family = net.isIP(host)
  return family !== 0 && loopback.check(host, family === 6 ? 'ipv6' : 'ipv4')
}
