/** Options that several commands share, and the parsers of their values. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import { PostcopyError } from '../errors.js'
import { parseWorkload } from '../guest/index.js'
import { parseUri } from '../net/index.js'
import { checkQmpAddress, type QmpServerOptions } from '../monitor/index.js'
import { parseByteSize } from '../units.js'

/** Options of every command that sends or receives a guest. */
export interface TlsOptions {
  tlsCreds?: string
  tlsHostname?: string
}

/** @param role - of the command; one that listens has no host name to check */
export function addTlsOptions(command: Command, role: 'listens' | 'connects'): Command {
  command.option(
    '--tls-creds <dir>',
    'TLS 1.3 with a certificate on both ends: ca-cert.pem, and server- or client-cert.pem and -key.pem',
  )
  if (role === 'listens') return command
  return command.option(
    '--tls-hostname <name>',
    "name that the destination's certificate must have; default: the host of its URI",
  )
}

export function tlsParameters({ tlsCreds, tlsHostname }: TlsOptions): {
  'tls-creds': string
  'tls-hostname': string
} {
  if (tlsCreds === undefined && tlsHostname !== undefined) {
    throw new PostcopyError('ERR_USAGE', '--tls-hostname needs --tls-creds')
  }
  return { 'tls-creds': tlsCreds ?? '', 'tls-hostname': tlsHostname ?? '' }
}

/** The option of every command that opens the directory of a parked VM. */
export function foreignDirectoryOption(): Option {
  return new Option(
    '--allow-foreign-directory',
    'accept a directory that belongs to another user, or that other users may write',
  )
}

export interface GuestOptions extends TlsOptions {
  ram: string
  memory: 'anon' | 'memfd' | 'hugetlb'
  vcpus: number
  workload: string
  userModeOnly?: true
}

export const WORKLOAD_HELP =
  'what the vCPUs do: idle, sweep, random, zipf or chase, then options, as in ' +
  'sweep:hot=64M,writes=30 (hot: bytes touched; writes: percent of touches that write; ' +
  'also fill, rate, touches, seed)'

/** @param defaults - for options that the user does not set */
export function addGuestOptions(
  command: Command,
  defaults: { ram: string; vcpus: number; workload: string },
): Command {
  return addTlsOptions(command, 'connects')
    .option(
      '--ram <size>',
      'memory of the guest, such as 256M or 2G',
      checked(parseByteSize),
      defaults.ram,
    )
    .addOption(
      new Option(
        '--memory <kind>',
        'its kind: private memory, a memfd, or huge pages of 2 MiB (see postcopy doctor)',
      )
        .choices(['anon', 'memfd', 'hugetlb'])
        .default('anon'),
    )
    .option('--vcpus <count>', 'how many threads run the workload', parseCount, defaults.vcpus)
    .option('--workload <text>', WORKLOAD_HELP, checked(parseWorkload), defaults.workload)
    .option(
      '--user-mode-only',
      'as destination: handle page faults of user code only, as an unprivileged user must',
    )
}

/** Options of every command that serves QMP. */
export interface QmpOptions {
  qmp?: string
  qmpTcpInsecure?: true
}

/**
 * Adds `--qmp`, and rejects an address that any program could connect to, before the command does
 * anything.
 *
 * @param note - an addition to the help text
 */
export function addQmpOptions(command: Command, note = ''): Command {
  return command
    .option('--qmp <where>', `serve QMP on unix:PATH or tcp:HOST:PORT${note}`, checked(qmpAddress))
    .option(
      '--qmp-tcp-insecure',
      'allow --qmp on tcp: QMP has no password, so any program that can connect controls the guest',
    )
    .hook('preAction', (_command, action) => {
      const { qmp, qmpTcpInsecure } = action.opts<QmpOptions>()
      if (qmp === undefined && qmpTcpInsecure === true) {
        throw new PostcopyError('ERR_USAGE', '--qmp-tcp-insecure needs --qmp')
      }
      if (qmp !== undefined) checkQmpAddress(qmp, qmpServerOptions({ qmpTcpInsecure }))
    })
}

function qmpAddress(text: string): void {
  parseUri(text, 'QMP address')
}

export function qmpServerOptions({
  qmpTcpInsecure,
}: {
  qmpTcpInsecure?: true | undefined
}): QmpServerOptions {
  return { allowInsecureTcp: qmpTcpInsecure === true }
}

/** Accepts `tcp:HOST:PORT`, `unix:PATH`, or one of the given words. */
export function uriOr(...words: readonly string[]): (text: string) => string {
  return (text) => (words.includes(text) ? text : checked(parseUri)(text))
}

/** Lets commander name the option if `parse` rejects its value; passes the text on unchanged. */
export function checked(parse: (text: string) => unknown): (text: string) => string {
  return (text) => {
    try {
      parse(text)
      return text
    } catch (error) {
      if (error instanceof PostcopyError) throw new InvalidArgumentError(error.message)
      throw error
    }
  }
}

/** Where a saved VM is in a file. */
export interface SavedFileOptions {
  offset?: number
  snapshot?: string
  index?: string
  memory?: ReadonlyMap<string, string>
}

/** @param hasIndex - whether the command keeps an index */
export function addSavedOptions(command: Command, hasIndex = true): Command {
  command
    .option(
      '--offset <bytes>',
      'where a saved VM begins in its file or block device, as in 4096, 0x1000 or 1M',
      parseOffset,
    )
    .option('--snapshot <name>', 'name or id of a snapshot in a qcow2 image')
    .option(
      '--memory <block=file>',
      "file of a RAM block's memory backend, if the block was left out by x-ignore-shared",
      parseMemory,
    )
  if (!hasIndex) return command
  return command.option(
    '--index <file>',
    'file for the index of a saved stream; default: beside the stream',
  )
}

export function cacheOption(): Option {
  return new Option(
    '--cache <dir>',
    'directory that a compressed file is unpacked into, once; default: FILE.parked. A pipe and - (standard input) need it',
  )
}

/** The options that were given, without those of other commands. */
export function savedOptionsOf(options: SavedFileOptions): SavedFileOptions {
  const { offset, snapshot, index, memory } = options
  return {
    ...(offset === undefined ? {} : { offset }),
    ...(snapshot === undefined ? {} : { snapshot }),
    ...(index === undefined ? {} : { index }),
    ...(memory === undefined ? {} : { memory }),
  }
}

function parseMemory(
  text: string,
  before: ReadonlyMap<string, string> | undefined,
): ReadonlyMap<string, string> {
  const [, name, file] = /^([^=]+)=(.+)$/s.exec(text) ?? []
  if (name === undefined || file === undefined) {
    throw new InvalidArgumentError('Give a RAM block and its file, as in pc.ram=/dev/shm/ram.')
  }
  return new Map([...(before ?? []), [name, file]])
}

function parseOffset(text: string): number {
  const bytes = /^0x[0-9a-f]+$/i.test(text) ? Number(text) : parseOrRefuse(text)
  if (Number.isSafeInteger(bytes)) return bytes
  throw new InvalidArgumentError(`"${text}" is larger than any file`)
}

function parseOrRefuse(text: string): number {
  try {
    return parseByteSize(text)
  } catch (error) {
    if (error instanceof PostcopyError) throw new InvalidArgumentError(error.message)
    throw error
  }
}

export function parseCount(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('Give a whole number from 1.')
  return Number(text)
}

/** For an option that may be given several times. */
export function collect(text: string, before: readonly string[] = []): string[] {
  return [...before, text]
}
