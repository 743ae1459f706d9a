/**
 * Creates an empty qcow2 image on top of another one: what `qemu-img create -b` makes, which may not
 * be installed beside QEMU.
 *
 * ```
 * cluster 0       header, its extensions, the path of the backing file
 * cluster 1       refcount table, with one entry
 * cluster 2       refcount block: 1 for each cluster of the file
 * cluster 3, …    L1 table, all zero: every read goes to the backing file
 * ```
 *
 * @see docs/interop/qcow2.txt of QEMU
 */
import { closeSync, fsyncSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { PostcopyError, errorToRecord } from '../errors.js'

const MAGIC = 0x514649fb
const VERSION = 3
const CLUSTER_BITS = 16
const CLUSTER_BYTES = 2 ** CLUSTER_BITS
const HEADER_BYTES = 104
const REFCOUNT_ORDER = 4
const REFCOUNT_BYTES = 2
const BACKING_FORMAT_EXTENSION = 0xe2792aca
/** An L1 entry is for a cluster of L2 entries. */
const BYTES_PER_L1_ENTRY = CLUSTER_BYTES * (CLUSTER_BYTES / 8)
const MOST_BACKING_BYTES = 1023
const SECTOR_BYTES = 512
const OWNER_ONLY = 0o600

export interface Backing {
  /** Absolute. */
  readonly path: string
  /** `raw`, `qcow2`, … */
  readonly format: string
  readonly virtualSizeBytes: number
}

/** The whole image but the L1 table's zeros. */
export function overlayImage({ path, format, virtualSizeBytes }: Backing): {
  readonly bytes: Uint8Array
  readonly lengthBytes: number
} {
  const name = Buffer.from(path)
  if (name.length > MOST_BACKING_BYTES) {
    throw new PostcopyError(
      'ENAMETOOLONG',
      `${path}: a qcow2 overlay can name a disk with a path of at most ${MOST_BACKING_BYTES} bytes, not ${name.length}`,
    )
  }
  const sizeBytes = Math.ceil(virtualSizeBytes / SECTOR_BYTES) * SECTOR_BYTES
  const l1Entries = Math.max(1, Math.ceil(sizeBytes / BYTES_PER_L1_ENTRY))
  const clusters = 3 + Math.ceil((l1Entries * 8) / CLUSTER_BYTES)
  if (clusters > CLUSTER_BYTES / REFCOUNT_BYTES) {
    throw new PostcopyError('ERR_DISK_OVERLAY', `${path}: too large for an overlay`)
  }
  const image = Buffer.alloc(3 * CLUSTER_BYTES)
  const extension = Buffer.alloc(8 + Math.ceil(format.length / 8) * 8)
  extension.writeUInt32BE(BACKING_FORMAT_EXTENSION, 0)
  extension.writeUInt32BE(format.length, 4)
  extension.write(format, 8, 'latin1')
  // Eight zero bytes end the extensions.
  const nameAt = HEADER_BYTES + extension.length + 8
  image.writeUInt32BE(MAGIC, 0)
  image.writeUInt32BE(VERSION, 4)
  image.writeBigUInt64BE(BigInt(nameAt), 8)
  image.writeUInt32BE(name.length, 16)
  image.writeUInt32BE(CLUSTER_BITS, 20)
  image.writeBigUInt64BE(BigInt(sizeBytes), 24)
  image.writeUInt32BE(l1Entries, 36)
  image.writeBigUInt64BE(BigInt(3 * CLUSTER_BYTES), 40)
  image.writeBigUInt64BE(BigInt(CLUSTER_BYTES), 48)
  image.writeUInt32BE(1, 56)
  image.writeUInt32BE(REFCOUNT_ORDER, 96)
  image.writeUInt32BE(HEADER_BYTES, 100)
  extension.copy(image, HEADER_BYTES)
  name.copy(image, nameAt)
  image.writeBigUInt64BE(BigInt(2 * CLUSTER_BYTES), CLUSTER_BYTES)
  for (let cluster = 0; cluster < clusters; cluster += 1) {
    image.writeUInt16BE(1, 2 * CLUSTER_BYTES + cluster * REFCOUNT_BYTES)
  }
  return { bytes: image, lengthBytes: clusters * CLUSTER_BYTES }
}

/** @throws PostcopyError with the errno name, also `EEXIST` */
export function createOverlay(file: string, backing: Backing): void {
  const { bytes, lengthBytes } = overlayImage(backing)
  try {
    const fd = openSync(file, 'wx', OWNER_ONLY)
    try {
      writeFileSync(fd, bytes)
      writeSync(fd, Buffer.alloc(1), 0, 1, lengthBytes - 1)
      fsyncSync(fd)
    } catch (error) {
      rmSync(file, { force: true })
      throw error
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    const { code } = errorToRecord(error)
    throw new PostcopyError(code, `${file}: the overlay cannot be made (${code})`, {
      cause: error,
    })
  }
}
