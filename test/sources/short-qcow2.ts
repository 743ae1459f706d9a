/** Small qcow2 images with internal snapshots. */

export interface Qcow2Parts {
  readonly version?: 2 | 3
  readonly clusterBits?: number
  readonly hasExtendedL2?: boolean
  readonly encryption?: number
  readonly incompatible?: number
  readonly diskBytes?: number
  readonly snapshots: readonly SnapshotParts[]
}

export interface SnapshotParts {
  readonly id: string
  readonly name: string
  /** Empty: a snapshot of the disk only. */
  readonly state: Uint8Array
  /** Bytes of extra data: 0 in old images, 16, or 24 with icount. */
  readonly extraBytes?: number
  /** Clusters of the state that are left out between two others in the file, by their number. */
  readonly gapsBefore?: readonly number[]
  /** Clusters of the state that are not allocated. */
  readonly holes?: readonly number[]
}

/** Builds the image in memory: header, states and their tables, snapshot table. */
export function qcow2Of(parts: Qcow2Parts): Uint8Array {
  const { version = 3, clusterBits = 9, hasExtendedL2 = false, encryption = 0 } = parts
  const { diskBytes = 1000, incompatible = hasExtendedL2 ? 16 : 0 } = parts
  const image = new ImageWriter(2 ** clusterBits)
  image.allocate(1)
  const entries = parts.snapshots.map((one) => snapshotOf(image, one, hasExtendedL2, diskBytes))
  const table = Buffer.concat(entries)
  const tableOffset = image.append(table)
  const bytes = image.take()
  bytes.write('QFI\xfb', 0, 'latin1')
  bytes.writeUInt32BE(version, 4)
  bytes.writeUInt32BE(clusterBits, 20)
  bytes.writeBigUInt64BE(BigInt(diskBytes), 24)
  bytes.writeUInt32BE(encryption, 32)
  bytes.writeUInt32BE(parts.snapshots.length, 60)
  bytes.writeBigUInt64BE(BigInt(tableOffset), 64)
  if (version === 3) {
    bytes.writeBigUInt64BE(BigInt(incompatible), 72)
    bytes.writeUInt32BE(104, 100)
  }
  return bytes
}

function snapshotOf(
  image: ImageWriter,
  parts: SnapshotParts,
  hasExtendedL2: boolean,
  diskBytes: number,
): Buffer {
  const { id, name, state, extraBytes = 24, gapsBefore = [], holes = [] } = parts
  const { clusterBytes } = image
  const entryBytes = hasExtendedL2 ? 16 : 8
  const spanBytes = (clusterBytes / entryBytes) * clusterBytes
  const first = Math.ceil(diskBytes / spanBytes)
  const tables = Math.ceil(state.length / spanBytes)
  const l1 = Buffer.alloc((first + tables) * 8)
  for (let index = 0; index < tables; index += 1) {
    const l2 = Buffer.alloc(clusterBytes)
    for (let at = 0; at < clusterBytes; at += entryBytes) {
      const cluster = (index * clusterBytes) / entryBytes + at / entryBytes
      const piece = state.subarray(cluster * clusterBytes, (cluster + 1) * clusterBytes)
      if (piece.length === 0 || holes.includes(cluster)) continue
      if (gapsBefore.includes(cluster)) image.allocate(1)
      l2.writeBigUInt64BE(BigInt(image.append(piece)) | (1n << 63n), at)
      if (hasExtendedL2) {
        const subclusters = Math.ceil((piece.length * 32) / clusterBytes)
        l2.writeBigUInt64BE((1n << BigInt(subclusters)) - 1n, at + 8)
      }
    }
    l1.writeBigUInt64BE(BigInt(image.append(l2)) | (1n << 63n), (first + index) * 8)
  }
  const l1Offset = image.append(l1)
  const length = 40 + extraBytes + id.length + name.length
  const entry = Buffer.alloc(Math.ceil(length / 8) * 8)
  entry.writeBigUInt64BE(BigInt(l1Offset), 0)
  entry.writeUInt32BE(first + tables, 8)
  entry.writeUInt16BE(id.length, 12)
  entry.writeUInt16BE(name.length, 14)
  entry.writeUInt32BE(1_700_000_000, 16)
  entry.writeUInt32BE(extraBytes > 0 ? 7 : state.length, 32)
  entry.writeUInt32BE(extraBytes, 36)
  if (extraBytes >= 8) entry.writeBigUInt64BE(BigInt(state.length), 40)
  if (extraBytes >= 16) entry.writeBigUInt64BE(BigInt(diskBytes), 48)
  entry.write(id + name, 40 + extraBytes)
  return entry
}

class ImageWriter {
  readonly clusterBytes: number
  readonly #clusters: Buffer[] = []

  constructor(clusterBytes: number) {
    this.clusterBytes = clusterBytes
  }

  /** Makes empty clusters; returns the offset of the first. */
  allocate(count: number): number {
    const offset = this.#clusters.length * this.clusterBytes
    for (let made = 0; made < count; made += 1) {
      this.#clusters.push(Buffer.alloc(this.clusterBytes))
    }
    return offset
  }

  append(bytes: Uint8Array): number {
    const offset = this.allocate(Math.max(1, Math.ceil(bytes.length / this.clusterBytes)))
    const first = offset / this.clusterBytes
    for (let at = 0; at < bytes.length; at += this.clusterBytes) {
      const piece = bytes.subarray(at, at + this.clusterBytes)
      this.#clusters[first + at / this.clusterBytes]?.set(piece)
    }
    return offset
  }

  take(): Buffer {
    return Buffer.concat(this.#clusters)
  }
}
