/** The header of a qcow2 image, as far as internal snapshots need it (compat 0.10 and 1.1). */
import { hex } from '../units.js'
import type { Cursor } from './cursor.js'

const V2_BYTES = 72
const V3_BYTES = 104
const LEAST_CLUSTER_BITS = 9
const MOST_CLUSTER_BITS = 21

/** Bits of the incompatible features. */
const Feature = { dirty: 1, corrupt: 2, dataFile: 4, compression: 8, extendedL2: 16 } as const
const READABLE = Feature.dirty | Feature.compression | Feature.extendedL2

export interface Qcow2Header {
  /** Offset of the image in the file. */
  readonly imageOffset: number
  readonly clusterBytes: number
  readonly diskBytes: number
  readonly hasExtendedL2: boolean
  readonly snapshotCount: number
  /** Offset in the image. */
  readonly snapshotsOffset: number
}

/** @param cursor - at the magic @throws SavedFileError */
export async function readQcow2Header(cursor: Cursor): Promise<Qcow2Header> {
  const imageOffset = cursor.offset
  await cursor.need(V2_BYTES, 'the header of qcow2')
  const version = await u32At(cursor, imageOffset + 4, 'the version of qcow2')
  if (version !== 2 && version !== 3) {
    cursor.refuse('refused', `qcow2 of version ${version}, not 2 or 3`, imageOffset + 4)
  }
  const clusterBits = await u32At(cursor, imageOffset + 20, 'the cluster bits of qcow2')
  if (clusterBits < LEAST_CLUSTER_BITS || clusterBits > MOST_CLUSTER_BITS) {
    cursor.refuse('damaged', `qcow2 with clusters of 2^${clusterBits} bytes`, imageOffset + 20)
  }
  const diskBytes = await cursor.u64('the virtual size of qcow2')
  const encryption = await cursor.u32('the encryption method of qcow2')
  if (encryption !== 0) {
    cursor.refuse(
      'refused',
      'the image is encrypted, and so are its snapshots: decrypt it first, or save the VM with ' +
        'migrate "file:PATH"',
      imageOffset + 32,
    )
  }
  cursor.seek(imageOffset + 60)
  const snapshotCount = await cursor.u32('the number of snapshots')
  const snapshotsOffset = await cursor.u64('the offset of the snapshot table')
  const features = version === 2 ? 0 : await readFeatures(cursor, imageOffset)
  return {
    imageOffset,
    clusterBytes: 2 ** clusterBits,
    diskBytes,
    hasExtendedL2: (features & Feature.extendedL2) !== 0,
    snapshotCount,
    snapshotsOffset,
  }
}

async function readFeatures(cursor: Cursor, imageOffset: number): Promise<number> {
  const field = 'the incompatible features of qcow2'
  cursor.seek(imageOffset)
  await cursor.need(V3_BYTES, 'the header of qcow2')
  cursor.seek(imageOffset + V2_BYTES)
  const high = await cursor.u32(field)
  const low = await cursor.u32(field)
  if ((low & Feature.corrupt) !== 0) {
    const advice = 'repair it with qemu-img check -r all, or use a backup'
    cursor.refuse('refused', `the image is marked as corrupt: ${advice}`, imageOffset + V2_BYTES)
  }
  if (high !== 0 || (low & ~READABLE) !== 0) {
    const bits = hex(high * 2 ** 32 + low)
    cursor.refuse('refused', `${field} are ${bits}, not all of them known`, imageOffset + V2_BYTES)
  }
  return low
}

async function u32At(cursor: Cursor, offset: number, field: string): Promise<number> {
  cursor.seek(offset)
  return cursor.u32(field)
}
