/**
 * The index of a stream, kept beside it. It saves the pass over the file, and is made again when it
 * does not fit.
 *
 *   "postcopy-index" 0a   u32 version   u32 length   JSON   rows of all blocks, f64, little-endian
 *   32 bytes SHA-256 of all before
 */
import { RAM_PAGE_RECORD_BYTES } from '../stream/index.js'
import { createHash, randomBytes } from 'node:crypto'
import { constants, fstatSync } from 'node:fs'
import { lstat, open, rename, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { PostcopyError } from '../errors.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import { type IndexFields, parseIndexFields } from './index-fields.js'
import { PageRow } from './page-table.js'

const MAGIC = Buffer.from('postcopy-index\n')
const VERSION = 1
const HEAD_BYTES = MAGIC.length + 8
const DIGEST_BYTES = 32
const MOST_FIELDS_BYTES = 4 * 2 ** 20
/** A larger index is not used: the pass over the file is made each time. */
const MOST_INDEX_BYTES = 2 ** 31 - 1
const OTHERS_MAY_WRITE = 0o022
const OWNER_ONLY = 0o600

export interface StreamIndex {
  readonly fields: IndexFields
  /** The rows of each block, as {@link PageRow} describes them. */
  readonly rows: readonly Float64Array[]
}

/** Prefix of the names of files beside a saved file. @param what - which stream of it */
export function streamPlace(path: string, what: { offset: number; snapshot?: string }): string {
  const at = what.offset === 0 ? '' : `.at-${what.offset}`
  const snapshot = what.snapshot === undefined ? '' : `.snapshot-${hexOf(what.snapshot)}`
  return `${path}${at}${snapshot}`
}

function hexOf(text: string): string {
  return /^\d{1,20}$/.test(text) ? text : Buffer.from(text).toString('hex').slice(0, 64)
}

/** @returns undefined if there is no index that can be used */
export async function readIndex(file: string): Promise<StreamIndex | undefined> {
  try {
    const bytes = await readOwnFile(file)
    return bytes === undefined ? undefined : decodeIndex(bytes)
  } catch {
    // Whatever is wrong with it, the index is made again.
    return undefined
  }
}

/** Rejects a file that other users can write: the index decides which bytes become guest memory. */
async function readOwnFile(file: string): Promise<Buffer | undefined> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  const handle = await open(file, flags)
  try {
    const { uid, mode, size } = fstatSync(handle.fd)
    const isFile = (mode & constants.S_IFMT) === constants.S_IFREG
    const isOwn = uid === process.geteuid?.() || uid === 0
    if (!isFile || !isOwn || (mode & OTHERS_MAY_WRITE) !== 0) return undefined
    if (size > MOST_INDEX_BYTES) return undefined
    return await handle.readFile()
  } finally {
    await handle.close()
  }
}

/** @throws PostcopyError `ERR_SAVED_INDEX` */
export function decodeIndex(bytes: Uint8Array): StreamIndex {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const end = bytes.length - DIGEST_BYTES
  if (end < HEAD_BYTES || !MAGIC.equals(bytes.subarray(0, MAGIC.length))) throw bad('its magic')
  if (view.getUint32(MAGIC.length) !== VERSION) throw bad('its version')
  const fieldsBytes = view.getUint32(MAGIC.length + 4)
  const rowsAt = HEAD_BYTES + fieldsBytes
  if (fieldsBytes > MOST_FIELDS_BYTES || rowsAt > end) throw bad('its length')
  const digest = createHash('sha256').update(bytes.subarray(0, end)).digest()
  if (!digest.equals(bytes.subarray(end))) throw bad('its checksum')
  const fields = parseIndexFields(new TextDecoder().decode(bytes.subarray(HEAD_BYTES, rowsAt)))
  const counts = fields.blocks.map(({ rowCount }) => rowCount * PageRow.stride)
  const numbers = counts.reduce((sum, count) => sum + count, 0)
  if (numbers * 8 !== end - rowsAt) throw bad('its rows')
  const all = new Float64Array(new Uint8Array(bytes.subarray(rowsAt, end)).buffer)
  let at = 0
  const rows = counts.map((count) => all.subarray(at, (at += count)))
  for (const [index, block] of fields.blocks.entries()) {
    checkRows(
      rows[index] ?? new Float64Array(0),
      block.lengthBytes / TARGET_PAGE_SIZE,
      fields.endOffset,
    )
  }
  return { fields, rows }
}

function checkRows(rows: Float64Array, pageCount: number, endOffset: number): void {
  let next = 0
  for (let at = 0; at < rows.length; at += PageRow.stride) {
    const first = rows[at + PageRow.firstPage] ?? 0
    const count = rows[at + PageRow.pageCount] ?? 0
    const offset = rows[at + PageRow.offset] ?? 0
    const isWhole = [first, count, offset].every((value) => Number.isSafeInteger(value))
    const end = offset + (count - 1) * RAM_PAGE_RECORD_BYTES + TARGET_PAGE_SIZE
    if (!isWhole || first < next || count < 1 || first + count > pageCount) throw bad('a row')
    if (offset < 1 || end > endOffset) throw bad('a row')
    next = first + count
  }
}

export function encodeIndex({ fields, rows }: StreamIndex): Uint8Array {
  const text = Buffer.from(JSON.stringify(fields))
  const head = Buffer.alloc(8)
  head.writeUInt32BE(VERSION)
  head.writeUInt32BE(text.length, 4)
  const parts = [MAGIC, head, text, ...rows.map(bytesOf)]
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return Buffer.concat([...parts, hash.digest()])
}

function bytesOf(rows: Float64Array): Uint8Array {
  return new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength)
}

/**
 * Why an index must not replace what has this name.
 *
 * @returns undefined for a name that is free, and for an index, damaged or not
 */
export async function findObstacle(file: string): Promise<string | undefined> {
  try {
    // Opening a device or a FIFO may have effects.
    if (!(await lstat(file)).isFile()) return 'it exists and is not a regular file'
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
    const handle = await open(file, flags)
    try {
      const { buffer } = await handle.read(Buffer.alloc(MAGIC.length), 0, MAGIC.length, 0)
      return MAGIC.equals(buffer) ? undefined : 'it exists and is not an index'
    } finally {
      await handle.close()
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error)
    return code === 'ENOENT' ? undefined : code
  }
}

/**
 * Writes an index atomically, readable by its owner only. Call {@link findObstacle} first. It is not
 * synced: an index that a power failure has cut fails its checksum.
 *
 * @throws Error of the file system with `code`; nothing is left then
 */
export async function writeIndex(file: string, index: StreamIndex): Promise<void> {
  const name = `.${basename(file).slice(0, 200)}.${randomBytes(6).toString('hex')}`
  const temporary = join(dirname(file), name)
  const handle = await open(temporary, 'wx', OWNER_ONLY)
  try {
    try {
      await handle.writeFile(encodeIndex(index))
    } finally {
      await handle.close()
    }
    await rename(temporary, file)
  } catch (error) {
    await unlink(temporary)
    throw error
  }
}

function bad(what: string): PostcopyError {
  return new PostcopyError('ERR_SAVED_INDEX', `the index is damaged: ${what}`)
}
