/**
 * `DIR/qemu.json` of a parked VM: how its QEMU was started, and its disks. Written by
 * `postcopy park --qemu`; not needed to resume. Like all files of a parked VM, only its owner can read it, because
 * a command line may contain secrets.
 */
import { join } from 'node:path'
import { PostcopyError } from '../errors.js'
import {
  parseFields,
  TrustedDirectory,
  withDirectory,
  type UntrustedFields,
} from '../park/internal.js'
import type { TrustOptions } from '../park/index.js'
import { formatByteSize } from '../units.js'
import { statUserFile } from '../user-files.js'
import type { FileState } from './disks.js'
import type { LaunchRecord } from './qemu-process.js'

export const ORIGIN_FILE = 'qemu.json'
const FORMAT = 'postcopy-qemu-origin'
const FORMAT_VERSION = 1
/** Linux limits all arguments of a program to 6 MiB. */
const MOST_BYTES = 16 * 2 ** 20
const CODE = 'ERR_ORIGIN_FORMAT'

/** A disk at the time of parking. */
export interface RecordedDisk {
  readonly name: string
  readonly file: string
  readonly format: string
  readonly isReadOnly: boolean
  readonly virtualSizeBytes: number
  /** Only of a plain file. */
  readonly state?: FileState
  /** Absolute paths of the images below it, as far as they are plain files. */
  readonly backing: readonly string[]
}

/** The QEMU from which a VM was parked. */
export interface Origin {
  /** Whether the guest ran when parking began. */
  readonly wasRunning: boolean
  readonly vcpus: number
  /** vCPUs with those that may be plugged later (`-smp maxcpus=`); 0 if QEMU does not report it. */
  readonly maxVcpus: number
  readonly disks: readonly RecordedDisk[]
  readonly launch?: LaunchRecord
}

/** @throws PostcopyError as `TrustedDirectory` */
export function writeOrigin(directory: string, origin: Origin, options: TrustOptions): void {
  const whole = { format: FORMAT, formatVersion: FORMAT_VERSION, ...origin }
  const bytes = Buffer.from(`${JSON.stringify(whole, undefined, 2)}\n`)
  const files = TrustedDirectory.open(directory, options)
  try {
    files.replaceFile(ORIGIN_FILE, bytes)
    files.sync()
  } finally {
    files.close()
  }
}

/**
 * @returns undefined if the VM was not parked by `--qemu`
 * @throws PostcopyError `ERR_ORIGIN_FORMAT`, `ERR_PARKED_VERSION`, `ERR_PARKED_UNTRUSTED`
 */
export function readOrigin(directory: string, options: TrustOptions): Origin | undefined {
  return withDirectory(directory, options, (files) => {
    if (!files.has(ORIGIN_FILE)) return undefined
    const path = join(files.path, ORIGIN_FILE)
    const bytes = files.readFile(ORIGIN_FILE, (lengthBytes) => {
      if (lengthBytes <= MOST_BYTES) return
      throw new PostcopyError(CODE, `${path} has more than ${formatByteSize(MOST_BYTES)}`)
    })
    return decodeOrigin(bytes.toString(), path)
  })
}

/**
 * Reads it to run its command, or to open its disks. A user who can write to the directory
 * could name any program and any file, so `--allow-foreign-directory` does not apply.
 *
 * @param isNeeded - no command was given
 * @returns undefined if there is none, or if it is not needed and others may have written it
 * @throws PostcopyError `ERR_PARKED_UNTRUSTED`, or as {@link readOrigin}
 */
export function readOwnOrigin(directory: string, isNeeded: boolean): Origin | undefined {
  // A saved file or a pipe has no record.
  if (statUserFile(directory)?.isDirectory() !== true) return undefined
  try {
    return readOrigin(directory, {})
  } catch (error) {
    if (!(error instanceof PostcopyError) || error.code !== 'ERR_PARKED_UNTRUSTED') throw error
    if (!isNeeded) return undefined
    const text = `${directory} may be written by other users, so its recorded command is not run: give the command after --`
    throw new PostcopyError(error.code, text, { cause: error })
  }
}

export function decodeOrigin(text: string, path: string): Origin {
  const fields = parseFields(text, path, CODE)
  if (fields.raw('format') !== FORMAT) fields.refuse('format', `"${FORMAT}"`)
  const version = fields.count('formatVersion')
  if (version > FORMAT_VERSION) {
    throw new PostcopyError(
      'ERR_PARKED_VERSION',
      `${path} has format version ${version}, but this postcopy supports version ${FORMAT_VERSION}: use a newer postcopy`,
    )
  }
  const launch = fields.optional('launch')
  const disks = fields.raw('disks')
  const isEmpty = Array.isArray(disks) && disks.length === 0
  return {
    wasRunning: flag(fields, 'wasRunning'),
    vcpus: fields.count('vcpus'),
    maxVcpus: fields.count('maxVcpus'),
    disks: isEmpty ? [] : fields.objects('disks').map(recordedDisk),
    ...(launch === undefined ? {} : { launch: launchRecord(launch) }),
  }
}

function recordedDisk(fields: UntrustedFields): RecordedDisk {
  const state = fields.optional('state')
  return {
    name: fields.text('name'),
    file: fields.text('file'),
    format: fields.text('format'),
    isReadOnly: flag(fields, 'isReadOnly'),
    virtualSizeBytes: fields.count('virtualSizeBytes'),
    backing: words(fields, 'backing'),
    ...(state === undefined ? {} : { state: fileStateOf(state) }),
  }
}

function fileStateOf(fields: UntrustedFields): FileState {
  const modifiedNs = fields.text('modifiedNs')
  if (!/^-?\d{1,25}$/.test(modifiedNs)) fields.refuse('modifiedNs', 'nanoseconds')
  const headerSha256 = fields.raw('headerSha256')
  return {
    path: word(fields, 'path', fields.raw('path')),
    lengthBytes: fields.count('lengthBytes'),
    modifiedNs,
    ...(headerSha256 === undefined ? {} : { headerSha256: fields.text('headerSha256') }),
  }
}

function launchRecord(fields: UntrustedFields): LaunchRecord {
  return {
    binary: word(fields, 'binary', fields.raw('binary')),
    version: fields.text('version'),
    args: words(fields, 'args'),
    directory: word(fields, 'directory', fields.raw('directory')),
  }
}

function words(fields: UntrustedFields, key: string): string[] {
  const list = fields.raw(key)
  if (!Array.isArray(list)) fields.refuse(key, 'a list')
  return list.map((value: unknown) => word(fields, key, value))
}

/** A program cannot be started with a word that has a zero byte. */
function word(fields: UntrustedFields, key: string, value: unknown): string {
  if (typeof value === 'string' && !value.includes('\0')) return value
  return fields.refuse(key, 'text without a zero byte')
}

function flag(fields: UntrustedFields, key: string): boolean {
  const value = fields.raw(key)
  return typeof value === 'boolean' ? value : fields.refuse(key, 'true or false')
}
