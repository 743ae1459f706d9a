/**
 * Connections: URIs, connecting and listening, TLS, and the gate that finds the source among the
 * incoming connections. Knows no migration state.
 */
export { BatchWriter } from './batch-writer.js'
export { Channel, descriptorOf } from './channel.js'
export type { Consumer } from './channel.js'
export { connect } from './connection.js'
export { listenOn, removeStale } from './listen-on.js'
export type { Listening } from './listen-on.js'
export type { ConnectionParameters } from './parameters.js'
export { isPlaintext } from './plaintext.js'
export { SourceListener } from './source-listener.js'
export type { SourceListenerHost } from './source-listener.js'
export { clientCredentials, serverCredentials } from './tls-credentials.js'
export type { TlsClient, TlsCredentials } from './tls-credentials.js'
export { formatUri, parseUri, unixUri } from './uri.js'
export type { MigrationUri } from './uri.js'
