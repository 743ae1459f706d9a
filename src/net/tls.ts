/**
 * TLS 1.3 over established connections, in the worker that uses them. Each end checks the
 * certificate of the other.
 *
 * A client finishes its handshake before the server has checked the client's certificate. Only the
 * first message from the server tells the client that its certificate was accepted.
 */
import net from 'node:net'
import tls from 'node:tls'
import { ConnectionError } from '../errors.js'
import { type ConnectTimeout, established } from './connect-timeout.js'
import { type TlsClient, type TlsCredentials, tlsOptions } from './tls-credentials.js'

/** The longest delay of a timer. */
const NEVER_MS = 2 ** 31 - 1

/** The first two bytes of a TLS record: its content type and the major version. */
const TLS_ALERT = 0x15
const TLS_HANDSHAKE = 0x16
const TLS_MAJOR = 3

/**
 * The handshake of the end that connects. Checks the peer's certificate and name.
 *
 * @throws ConnectionError `ERR_TLS_CERTIFICATE`, `ERR_TLS_EXPECTED`, `ERR_TLS_HANDSHAKE`,
 *   `ERR_TLS_REFUSED`
 */
export async function secureClient(
  raw: net.Socket,
  peer: string,
  client: TlsClient,
  patience: ConnectTimeout,
): Promise<tls.TLSSocket> {
  const { hostname } = client
  const socket = tls.connect({
    ...tlsOptions(client),
    socket: raw,
    rejectUnauthorized: true,
    // An IP address is not allowed as server name, but a certificate may name one.
    servername: net.isIP(hostname) === 0 ? hostname : '',
    checkServerIdentity: (_name, certificate) => tls.checkServerIdentity(hostname, certificate),
  })
  const cannot = `no TLS with ${peer}`
  await established(
    socket,
    {
      event: 'secureConnect',
      cannot,
      lateCode: 'ERR_TLS_HANDSHAKE',
      explain: (error) => handshakeError(error, socket.authorizationError, peer),
    },
    patience,
  )
  return halfOpen(socket)
}

/**
 * The handshake of the end that listens. Rejects clients without a certificate that the CA has
 * signed.
 *
 * @throws ConnectionError as {@link secureClient}
 */
export function secureServer(
  raw: net.Socket,
  peer: string,
  credentials: TlsCredentials,
  timeoutMs: number,
): Promise<tls.TLSSocket> {
  return new Promise((resolve, reject) => {
    // One server for each connection: a failed handshake is that of `raw`. It does not listen.
    const server = tls.createServer({
      ...tlsOptions(credentials),
      requestCert: true,
      rejectUnauthorized: true,
      // 0 means no timeout, as elsewhere; Node would use its default instead.
      handshakeTimeout: timeoutMs === 0 ? NEVER_MS : timeoutMs,
    })
    server.once('secureConnection', (socket) => resolve(halfOpen(socket)))
    server.once('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
      reject(handshakeError(error, socket.authorizationError, peer))
      raw.destroy()
    })
    server.emit('connection', raw)
  })
}

/** EOF during the handshake aborts the connection; after it, the peer may half-close. */
function halfOpen(socket: tls.TLSSocket): tls.TLSSocket {
  socket.allowHalfOpen = true
  return socket
}

/** Explains why a handshake failed. */
function handshakeError(
  cause: NodeJS.ErrnoException,
  unauthorized: Error | string | null | undefined,
  peer: string,
): ConnectionError {
  const fail = (code: string, text: string): ConnectionError =>
    new ConnectionError(code, text, { cause })
  // `unauthorized` is an error code at a server and an Error at a client; the types know neither.
  if (unauthorized !== undefined && unauthorized !== null) {
    const why = /^ERR_SSL|^ECONN/.test(cause.code ?? '') ? String(unauthorized) : cause.message
    return fail('ERR_TLS_CERTIFICATE', `the certificate of ${peer} is not accepted: ${why}`)
  }
  switch (cause.code) {
    case 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE':
      return fail(
        'ERR_TLS_CERTIFICATE',
        `${peer} sent no certificate, but one is required: set tls-creds there`,
      )
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
      return fail(
        'ERR_TLS_EXPECTED',
        `${peer} does not use TLS, but this end does: set tls-creds on both ends, or on none`,
      )
    case 'ERR_TLS_HANDSHAKE_TIMEOUT':
      return fail('ERR_TLS_HANDSHAKE', `no TLS with ${peer}: the handshake timed out`)
    case 'ECONNRESET':
    case 'EPIPE':
      return fail(
        'ERR_TLS_HANDSHAKE',
        `no TLS with ${peer}: it closed the connection during the handshake; are tls-creds set there too?`,
      )
    default:
      return (
        sslError(cause, peer) ?? fail('ERR_TLS_HANDSHAKE', `no TLS with ${peer}: ${cause.message}`)
      )
  }
}

/** Explains an error of OpenSSL, in or after the handshake; undefined for other errors. */
export function sslError(cause: NodeJS.ErrnoException, peer: string): ConnectionError | undefined {
  const { code = '' } = cause
  if (!code.startsWith('ERR_SSL_')) return undefined
  const reason: unknown = Reflect.get(cause, 'reason')
  const why = typeof reason === 'string' ? reason : cause.message
  // The peer sent an alert; it is not one that this end sent.
  return /_ALERT_/.test(code)
    ? new ConnectionError('ERR_TLS_REFUSED', `${peer} rejected the TLS connection: ${why}`, {
        cause,
      })
    : new ConnectionError('ERR_TLS_HANDSHAKE', `the TLS connection to ${peer} failed: ${why}`, {
        cause,
      })
}

/**
 * Checks whether the first bytes of a plaintext connection are TLS. No message of a migration
 * begins with them.
 *
 * @returns the error for the user, or undefined if they are not TLS
 */
export function refuseTls(
  bytes: Uint8Array,
  start: number,
  end: number,
  peer: string,
): ConnectionError | undefined {
  const [type, major] = bytes.subarray(start, end)
  if ((type !== TLS_HANDSHAKE && type !== TLS_ALERT) || major !== TLS_MAJOR) return undefined
  return new ConnectionError(
    'ERR_TLS_UNEXPECTED',
    `${peer} uses TLS, but this end does not: set tls-creds on both ends, or on none`,
  )
}
