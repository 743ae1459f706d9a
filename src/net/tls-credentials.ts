/**
 * Our certificate and the trusted CAs: a directory of x509 files, named as QEMU's `tls-creds-x509`
 * names them. The main thread reads them, and the workers use them.
 */
import { X509Certificate, createPrivateKey } from 'node:crypto'
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type SecureContext, createSecureContext } from 'node:tls'
import { PostcopyError } from '../errors.js'
import { readRegularFile } from '../user-files.js'
import type { ConnectionParameters } from './parameters.js'
import type { MigrationUri } from './uri.js'

/** The end that listens is the server, the end that connects the client. */
export type TlsRole = 'server' | 'client'

/** Plain data, for a worker. */
export interface TlsCredentials {
  readonly directory: string
  /** PEM; certificates of the CAs that may sign the peer's certificate. */
  readonly ca: string
  readonly crl: string | undefined
  /** PEM; our certificate, followed by intermediate ones. */
  readonly cert: string
  readonly key: string
}

export interface TlsClient extends TlsCredentials {
  /** DNS name or IP address that the destination's certificate must have. */
  readonly hostname: string
}

const CA_FILE = 'ca-cert.pem'
const CRL_FILE = 'ca-crl.pem'

/** The extended key usage that a certificate needs if it has that extension. */
const purposes: Readonly<Record<TlsRole, string>> = {
  server: '1.3.6.1.5.5.7.3.1',
  client: '1.3.6.1.5.5.7.3.2',
}

/**
 * Credentials of an end that listens; undefined if `tls-creds` is empty.
 *
 * @throws PostcopyError `ERR_TLS_CREDENTIALS`, naming the file
 */
export function serverCredentials(parameters: ConnectionParameters): TlsCredentials | undefined {
  const directory = parameters['tls-creds']
  return directory === '' ? undefined : readCredentials(directory, 'server')
}

/**
 * Credentials of an end that connects to `uri`; undefined if `tls-creds` is empty.
 *
 * @throws PostcopyError `ERR_TLS_CREDENTIALS`, naming the file; `ERR_TLS_HOSTNAME`
 */
export function clientCredentials(
  parameters: ConnectionParameters,
  uri: MigrationUri,
): TlsClient | undefined {
  const directory = parameters['tls-creds']
  if (directory === '') return undefined
  const hostname = parameters['tls-hostname'] || (uri.type === 'tcp' ? uri.host || 'localhost' : '')
  if (hostname === '') {
    throw new PostcopyError(
      'ERR_TLS_HOSTNAME',
      "a unix socket has no host name to check the destination's certificate against: set tls-hostname",
    )
  }
  return { ...readCredentials(directory, 'client'), hostname }
}

/**
 * Reads the files of one role and checks what can be checked without a peer.
 *
 * @throws PostcopyError `ERR_TLS_CREDENTIALS` for a file that is missing, unreadable, expired, or
 *   does not belong to the others
 */
export function readCredentials(directory: string, role: TlsRole): TlsCredentials {
  const [caPath, certPath, keyPath, crlPath] = [
    CA_FILE,
    `${role}-cert.pem`,
    `${role}-key.pem`,
    CRL_FILE,
  ].map((name) => join(directory, name)) as [string, string, string, string]
  const ca = read(caPath, role)
  const cert = read(certPath, role)
  const key = read(keyPath, role)
  warnOfReadableKey(keyPath)
  const crl = existsSync(crlPath) ? read(crlPath, role) : undefined
  const authorities = certificatesIn(ca, caPath)
  const chain = certificatesIn(cert, certPath)
  for (const one of authorities) checkDates(one, caPath)
  for (const one of chain) checkDates(one, certPath)
  checkPurpose(chain[0], role, certPath)
  checkKey(chain[0], key, keyPath, certPath)
  checkIssuer(chain, authorities, certPath, caPath)
  const credentials = { directory, ca, crl, cert, key }
  createContext(credentials)
  return credentials
}

/** The credentials as options of Node's TLS. */
export function tlsOptions({ ca, crl, cert, key }: TlsCredentials): {
  ca: string
  cert: string
  key: string
  crl?: string
  minVersion: 'TLSv1.3'
} {
  return { ca, cert, key, ...(crl === undefined ? {} : { crl }), minVersion: 'TLSv1.3' }
}

/** @throws PostcopyError `ERR_TLS_CREDENTIALS` if OpenSSL rejects the files */
function createContext(credentials: TlsCredentials): SecureContext {
  try {
    return createSecureContext(tlsOptions(credentials))
  } catch (error) {
    throw unusable(`the files in ${credentials.directory} cannot be used`, error)
  }
}

function read(path: string, role: TlsRole): string {
  try {
    return readRegularFile(path, LIMIT_BYTES).toString()
  } catch (error) {
    const others = `${CA_FILE}, ${role}-cert.pem and ${role}-key.pem`
    throw unusable(`tls-creds must be a directory with ${others}`, error)
  }
}

/** Most bytes of one file: a certificate revocation list may be long. */
const LIMIT_BYTES = 64 * 1024 * 1024
const READABLE_BY_OTHERS = 0o077
const warnedOf = new Set<string>()

/** Warns once for each file: another user who has the key can impersonate this host. */
function warnOfReadableKey(path: string): void {
  const mode = statSync(path).mode & 0o777
  if ((mode & READABLE_BY_OTHERS) === 0 || warnedOf.has(path)) return
  warnedOf.add(path)
  process.emitWarning(
    `other users may read or write the private key ${path} (mode ${mode.toString(8).padStart(4, '0')}): chmod 600 ${path}`,
    { code: 'POSTCOPY_KEY_PERMISSIONS' },
  )
}

type Certificates = readonly [X509Certificate, ...X509Certificate[]]

function certificatesIn(pem: string, path: string): Certificates {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  try {
    const [first, ...more] = blocks.map((block) => new X509Certificate(block))
    if (first !== undefined) return [first, ...more]
  } catch (error) {
    throw unusable(`${path} has a certificate that cannot be read`, error)
  }
  throw unusable(`${path} has no certificate in PEM`)
}

function checkDates({ validFrom, validTo }: X509Certificate, path: string): void {
  const now = Date.now()
  if (now > Date.parse(validTo)) throw unusable(`the certificate in ${path} expired on ${validTo}`)
  if (now < Date.parse(validFrom)) {
    throw unusable(
      `the certificate in ${path} is not valid before ${validFrom}: is the clock right?`,
    )
  }
}

function checkPurpose(certificate: X509Certificate, role: TlsRole, path: string): void {
  // Node's `keyUsage` is the extended key usage; undefined allows any.
  const usages = certificate.keyUsage as readonly string[] | undefined
  if (usages === undefined || usages.includes(purposes[role])) return
  throw unusable(`the certificate in ${path} is not for a TLS ${role} (extended key usage)`)
}

function checkKey(
  certificate: X509Certificate,
  key: string,
  keyPath: string,
  certPath: string,
): void {
  let isOurs: boolean
  try {
    isOurs = certificate.checkPrivateKey(createPrivateKey(key))
  } catch (error) {
    throw unusable(`${keyPath} has no private key in PEM without a password`, error)
  }
  if (!isOurs)
    throw unusable(`the key in ${keyPath} does not belong to the certificate in ${certPath}`)
}

/** Checks that a peer with the same CA file can verify our certificate. */
function checkIssuer(
  chain: Certificates,
  authorities: Certificates,
  certPath: string,
  caPath: string,
): void {
  const last = chain.at(-1) ?? chain[0]
  const isSigned = authorities.some((ca) => last.checkIssued(ca) && last.verify(ca.publicKey))
  if (!isSigned)
    throw unusable(`the certificate in ${certPath} is not signed by a certificate in ${caPath}`)
}

function unusable(what: string, cause?: unknown): PostcopyError {
  const why = cause instanceof Error ? `: ${cause.message}` : ''
  return new PostcopyError('ERR_TLS_CREDENTIALS', `${what}${why}`, { cause })
}
