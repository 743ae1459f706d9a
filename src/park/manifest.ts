/**
 * `manifest.json` of a parked VM: what is in its directory, and how to verify that it is complete.
 *
 * ```
 * DIR/manifest.json   this
 * DIR/configuration   the configuration element of the stream, unchanged
 * DIR/devices         the FULL sections of all devices, unchanged and opaque
 * DIR/domain.xml      only of an image of libvirt: the XML of the domain
 * DIR/cookie.xml      the same: libvirt's cookie
 * DIR/ram-0, …        a RAM block each; zero pages are holes
 * DIR/received-0, …   only in an incomplete VM: which pages were received, one bit each
 * DIR/working-set     made by resume, not part of the VM: see working-set-file.ts
 * ```
 */
import { PostcopyError } from '../errors.js'
import { DEFAULT_LIMITS, MAX_LOOK_AHEAD_BYTES } from '../stream/index.js'
import { TARGET_PAGE_SIZE, formatByteSize } from '../units.js'
import { type ChecksumAlgorithm, checksumAlgorithms } from './checksum.js'
import { MOST_LIBVIRT_DATA_BYTES } from '../sources/internal.js'
import { type UntrustedFields, parseFields } from './fields.js'

export const MANIFEST_FILE = 'manifest.json'
/** More than 1024 RAM blocks with the longest names need. */
export const MOST_MANIFEST_BYTES = 4 * 2 ** 20
/** Limit of the device state; QEMU's own machines have 14 KiB to a few MiB. */
export const MOST_DEVICE_BYTES = 256 * 2 ** 20
/** Limit of RAM, because of the bitmaps, which take 1/32768 of it each. */
export const MOST_RAM_BYTES = 2 ** 44
const MOST_CONFIGURATION_BYTES = MAX_LOOK_AHEAD_BYTES
const FORMAT = 'postcopy-parked-vm'
const FORMAT_VERSION = 1

/** A small file, checked each time the VM is opened. */
export interface ParkedFile {
  readonly file: string
  readonly lengthBytes: number
  readonly sha256: string
}

export interface ParkedBlock {
  /** QEMU's name, one byte per character; may not be a valid file name. */
  readonly name: string
  readonly file: string
  readonly lengthBytes: number
  /** Host page of the source's block: more than 4096 for hugetlb. */
  readonly pageSizeBytes: number
  /** Target pages that are not zero. */
  readonly dataPages: number
  /** See `checksum.ts`; only in a complete VM. */
  readonly checksum?: string
  /** Bitmap of received pages; only in an incomplete VM. Without it no page counts as received. */
  readonly receivedFile?: string
}

export interface ParkStatistics {
  readonly transferredBytes: number
  readonly normalPages: number
  readonly zeroPages: number
  readonly discardedPages: number
  readonly durationMs: number
  /** Pages that the source never sent, such as free pages of a balloon; they are zero. */
  readonly unsentPages: number
}

export interface Manifest {
  /** `incomplete`: postcopy broke off, and only the source has the missing pages. */
  readonly state: 'complete' | 'incomplete'
  /** ISO 8601. */
  readonly parkedAt: string
  readonly machineType: string
  /** Section id of `ram` in the original stream; those of the devices differ from it. */
  readonly ramSectionId: number
  readonly way: 'precopy' | 'postcopy'
  /** Of the RAM blocks; absent: `crc32`. */
  readonly checksumAlgorithm?: ChecksumAlgorithm
  readonly configuration: ParkedFile
  readonly devices: ParkedFile
  /** JSON with the sizes and fields of the devices; QEMU adds it in precopy only. */
  readonly description?: ParkedFile
  /** XML of the domain, and the cookie that libvirt wrote beside it. */
  readonly domainXml?: ParkedFile
  readonly domainCookie?: ParkedFile
  readonly blocks: readonly ParkedBlock[]
  readonly statistics: ParkStatistics
}

export function encodeManifest(manifest: Manifest): Uint8Array {
  const whole = { format: FORMAT, formatVersion: FORMAT_VERSION, ...manifest }
  return Buffer.from(`${JSON.stringify(whole, undefined, 2)}\n`)
}

/**
 * Parses an untrusted manifest.
 *
 * @throws PostcopyError `ERR_PARKED_FORMAT` if it is not a valid manifest, `ERR_PARKED_VERSION` for
 *   one of a later postcopy
 */
export function decodeManifest(text: string, path: string): Manifest {
  const fields = parseFields(text, path, 'ERR_PARKED_FORMAT')
  if (fields.raw('format') !== FORMAT) fields.refuse('format', `"${FORMAT}"`)
  const version = fields.count('formatVersion')
  if (version > FORMAT_VERSION) {
    throw new PostcopyError(
      'ERR_PARKED_VERSION',
      `${path} has format version ${version}, but this postcopy supports version ${FORMAT_VERSION}: use a newer postcopy`,
    )
  }
  const description = fields.optional('description')
  return {
    state: fields.oneOf('state', ['complete', 'incomplete']),
    parkedAt: fields.text('parkedAt'),
    machineType: fields.text('machineType'),
    ramSectionId: fields.count('ramSectionId', 0xffffffff),
    way: fields.oneOf('way', ['precopy', 'postcopy']),
    ...(fields.raw('checksumAlgorithm') === undefined
      ? {}
      : { checksumAlgorithm: fields.oneOf('checksumAlgorithm', checksumAlgorithms) }),
    configuration: parkedFile(fields.object('configuration'), MOST_CONFIGURATION_BYTES),
    devices: parkedFile(fields.object('devices'), MOST_DEVICE_BYTES),
    ...(description === undefined
      ? {}
      : { description: parkedFile(description, DEFAULT_LIMITS.maxDescriptionBytes) }),
    ...optionalFile(fields, 'domainXml'),
    ...optionalFile(fields, 'domainCookie'),
    blocks: parkedBlocks(fields),
    statistics: statistics(fields.object('statistics')),
  }
}

function optionalFile(
  fields: UntrustedFields,
  key: 'domainXml' | 'domainCookie',
): Partial<Record<typeof key, ParkedFile>> {
  const found = fields.optional(key)
  return found === undefined ? {} : { [key]: parkedFile(found, MOST_LIBVIRT_DATA_BYTES) }
}

/** The file is read as a whole, so its length is limited. */
function parkedFile(fields: UntrustedFields, mostBytes: number): ParkedFile {
  return {
    file: fields.fileName('file'),
    lengthBytes: fields.count('lengthBytes', mostBytes),
    sha256: fields.text('sha256'),
  }
}

function parkedBlocks(fields: UntrustedFields): ParkedBlock[] {
  const most = DEFAULT_LIMITS.maxRamBlocks
  const objects = fields.objects('blocks')
  if (objects.length > most) fields.refuse('blocks', `a list of at most ${most}`)
  const blocks = objects.map(parkedBlock)
  for (const key of ['name', 'file'] as const) {
    if (new Set(blocks.map((block) => block[key])).size < blocks.length) {
      fields.refuse('blocks', `a list with a different ${key} in each entry`)
    }
  }
  const ramBytes = blocks.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)
  if (ramBytes > MOST_RAM_BYTES) {
    fields.refuse('blocks', `a list of blocks of at most ${formatByteSize(MOST_RAM_BYTES)}`)
  }
  return blocks
}

function parkedBlock(fields: UntrustedFields): ParkedBlock {
  const name = fields.text('name')
  const lengthBytes = fields.count('lengthBytes')
  const pageSizeBytes = fields.count('pageSizeBytes')
  const isPageSize = pageSizeBytes >= TARGET_PAGE_SIZE && Number.isInteger(Math.log2(pageSizeBytes))
  if (!isPageSize) fields.refuse('pageSizeBytes', 'a page size')
  if (lengthBytes === 0 || lengthBytes % pageSizeBytes !== 0) {
    fields.refuse('lengthBytes', 'whole pages')
  }
  if (!/^[\0-\xff]{1,255}$/.test(name)) fields.refuse('name', '1 to 255 bytes')
  const checksum = fields.raw('checksum')
  const receivedFile = fields.raw('receivedFile')
  return {
    name,
    file: fields.fileName('file'),
    lengthBytes,
    pageSizeBytes,
    dataPages: fields.count('dataPages'),
    ...(checksum === undefined ? {} : { checksum: fields.text('checksum') }),
    ...(receivedFile === undefined ? {} : { receivedFile: fields.fileName('receivedFile') }),
  }
}

function statistics(fields: UntrustedFields): ParkStatistics {
  return {
    transferredBytes: fields.count('transferredBytes'),
    normalPages: fields.count('normalPages'),
    zeroPages: fields.count('zeroPages'),
    discardedPages: fields.count('discardedPages'),
    durationMs: fields.count('durationMs'),
    unsentPages: fields.count('unsentPages'),
  }
}
