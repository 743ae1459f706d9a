/** Whether guest memory can be read on its way. */
import net from 'node:net'
import type { ConnectionParameters } from './parameters.js'
import type { MigrationUri } from './uri.js'

const loopback = new net.BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/** `uri` is an address of other hosts too, and nothing on it is encrypted. */
export function isPlaintext(uri: MigrationUri, parameters: ConnectionParameters): boolean {
  return uri.type === 'tcp' && parameters['tls-creds'] === '' && !isLoopback(uri.host)
}

/** A name other than `localhost` may stand for anything. */
function isLoopback(host: string): boolean {
  if (host === '' || host === 'localhost') return true
  const family = net.isIP(host)
  return family !== 0 && loopback.check(host, family === 6 ? 'ipv6' : 'ipv4')
}
