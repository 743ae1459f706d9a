/** Certificate authorities and their certificates, made with openssl for one test. */
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']

export type Role = 'server' | 'client'

export interface Issue {
  /** Default: the names that both ends of a test on this host need. */
  subjectAltName?: string
  /** Days from now; -1 has expired. */
  days?: number
  /** Allowed uses of the certificate, instead of those of its role. */
  extendedKeyUsage?: string
}

export class Authority {
  /** Contains `ca-cert.pem` and `ca-key.pem`. */
  readonly folder: string

  constructor(parent: string, name = 'ca') {
    this.folder = join(parent, name)
    mkdirSync(this.folder)
    const extensions = [
      'basicConstraints=critical,CA:TRUE',
      'keyUsage=critical,keyCertSign,cRLSign',
    ]
    this.#openssl(
      ...['req', '-x509', ...KEY, '-keyout', 'ca-key.pem', '-out', 'ca-cert.pem'],
      ...['-days', '2', '-subj', `/CN=${name}`],
      ...extensions.flatMap((extension) => ['-addext', extension]),
    )
  }

  /** Makes `ROLE-cert.pem` and `ROLE-key.pem` in `directory`, and adds the CA's certificate. */
  issue(directory: string, role: Role, options: Issue = {}): void {
    const {
      subjectAltName = 'DNS:localhost,IP:127.0.0.1',
      days = 1,
      extendedKeyUsage = `${role}Auth`,
    } = options
    mkdirSync(directory, { recursive: true })
    const [key, cert] = ['key', 'cert'].map((what) => join(directory, `${role}-${what}.pem`))
    this.#openssl('req', ...KEY, '-keyout', key ?? '', '-out', 'request', '-subj', `/CN=${role}`)
    writeFileSync(
      join(this.folder, 'extensions'),
      [
        'basicConstraints=critical,CA:FALSE',
        'keyUsage=critical,digitalSignature',
        `extendedKeyUsage=${extendedKeyUsage}`,
        `subjectAltName=${subjectAltName}`,
      ].join('\n'),
    )
    this.#openssl(
      ...['x509', '-req', '-in', 'request', '-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem'],
      ...['-CAcreateserial', '-days', String(days), '-extfile', 'extensions', '-out', cert ?? ''],
    )
    copyFileSync(join(this.folder, 'ca-cert.pem'), join(directory, 'ca-cert.pem'))
  }

  /** Makes a revocation list in `directory` for the certificates of these roles there. */
  revoke(directory: string, ...roles: readonly Role[]): void {
    const config = ['[ca]', 'default_ca=x', '[x]', 'database=index', 'default_md=sha256']
    writeFileSync(join(this.folder, 'ca.cnf'), config.join('\n'))
    writeFileSync(join(this.folder, 'index'), '')
    const ca = ['ca', '-config', 'ca.cnf', '-cert', 'ca-cert.pem', '-keyfile', 'ca-key.pem']
    for (const role of roles) this.#openssl(...ca, '-revoke', join(directory, `${role}-cert.pem`))
    this.#openssl(...ca, '-gencrl', '-crldays', '1', '-out', join(directory, 'ca-crl.pem'))
  }

  #openssl(...args: readonly string[]): void {
    execFileSync('openssl', args, { cwd: this.folder, stdio: ['ignore', 'ignore', 'pipe'] })
  }
}

/** A directory with everything that both ends need, from an authority of its own. */
export function makeCredentials(
  parent: string,
  name = 'creds',
): { directory: string; authority: Authority } {
  const authority = new Authority(parent, `${name}-ca`)
  const directory = join(parent, name)
  for (const role of ['server', 'client'] as const) authority.issue(directory, role)
  return { directory, authority }
}

/** The same files as options of Node's TLS, for peers that a test makes. */
export function tlsFiles(
  directory: string,
  role: Role,
): Readonly<Record<'ca' | 'cert' | 'key', string>> {
  const read = (name: string): string => readFileSync(join(directory, name), 'utf8')
  return {
    ca: read('ca-cert.pem'),
    cert: read(`${role}-cert.pem`),
    key: read(`${role}-key.pem`),
  }
}
