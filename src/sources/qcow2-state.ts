/**
 * The state of a VM in a snapshot of a qcow2 image: a stream that follows the disk, at a virtual
 * offset that is the size of the disk rounded up to what one L1 entry covers. Its clusters are
 * looked up once, and kept as extents.
 */
import { Cursor } from './cursor.js'
import type { ByteSource } from './file-bytes.js'
import type { Qcow2Header } from './qcow2-header.js'
import type { Snapshot } from './qcow2-snapshots.js'
import { SavedFileError } from './saved-error.js'

/** Columns of an extent: offset in the state, offset in the file, length. */
const Extent = { stride: 3, offset: 0, fileOffset: 1, lengthBytes: 2 } as const
/** Instead of an offset in the file: a cluster that is not allocated. An error when it is read. */
const HOLE = -1
/** Extents take 48 MiB then. */
const MOST_EXTENTS = 2 ** 21
const SUBCLUSTERS = 32
const OFFSET_HIGH_MASK = 0x00ffffff
const OFFSET_LOW_MASK = 0xfffffe00

export class Qcow2State implements ByteSource {
  readonly path: string
  readonly endOffset: number
  readonly allocatedBytes: number
  readonly inside: string
  readonly #file: ByteSource
  #extents = new Float64Array(64 * Extent.stride)
  #count = 0

  /** @throws SavedFileError */
  static async open(
    file: ByteSource,
    header: Qcow2Header,
    snapshot: Snapshot,
  ): Promise<Qcow2State> {
    const state = new Qcow2State(file, snapshot)
    if (snapshot.stateBytes > file.endOffset - header.imageOffset) {
      state.#refuse(
        'truncated',
        `its state of ${snapshot.stateBytes} bytes is longer than the file`,
      )
    }
    await state.#map(header, snapshot)
    return state
  }

  private constructor(file: ByteSource, { name, id, stateBytes }: Snapshot) {
    this.path = file.path
    this.#file = file
    this.endOffset = stateBytes
    this.allocatedBytes = Math.min(stateBytes, file.allocatedBytes)
    this.inside = ` of the state of snapshot "${name}" (${id})`
  }

  async read(target: Uint8Array, offset: number): Promise<number> {
    const wanted = Math.min(target.length, Math.max(0, this.endOffset - offset))
    for (let have = 0; have < wanted;) {
      const { fileOffset, lengthBytes } = this.extentAt(offset + have)
      const count = Math.min(wanted - have, lengthBytes)
      const piece = target.subarray(have, have + count)
      const taken = await this.#file.read(piece, fileOffset)
      have += taken
      if (taken < count) return have
    }
    return wanted
  }

  /**
   * Where the byte at `offset` is in the file, and how many bytes follow it there.
   *
   * @throws SavedFileError if its cluster is not allocated
   */
  extentAt(offset: number): { fileOffset: number; lengthBytes: number } {
    let low = 0
    let high = this.#count - 1
    while (low < high) {
      const middle = Math.ceil((low + high) / 2)
      const begin = this.#extents[middle * Extent.stride + Extent.offset] ?? 0
      if (begin <= offset) low = middle
      else high = middle - 1
    }
    const at = low * Extent.stride
    const skipped = offset - (this.#extents[at + Extent.offset] ?? 0)
    const fileOffset = this.#extents[at + Extent.fileOffset] ?? HOLE
    if (fileOffset === HOLE) this.#refuse('damaged', 'its cluster is not allocated', offset)
    return {
      fileOffset: fileOffset + skipped,
      lengthBytes: (this.#extents[at + Extent.lengthBytes] ?? 0) - skipped,
    }
  }

  /**
   * Ends at the first hole, because no complete state has one. So the time depends on what is in the
   * file, and not on the length that it announces.
   */
  async #map(header: Qcow2Header, snapshot: Snapshot): Promise<void> {
    const { clusterBytes, hasExtendedL2, imageOffset } = header
    const entryBytes = hasExtendedL2 ? 16 : 8
    const spanBytes = (clusterBytes / entryBytes) * clusterBytes
    const first = Math.ceil(snapshot.diskBytes / spanBytes)
    const tables = Math.ceil(snapshot.stateBytes / spanBytes)
    if (first + tables > snapshot.l1Entries) {
      this.#refuse('damaged', `its L1 table of ${snapshot.l1Entries} entries ends before its state`)
    }
    const l1 = new Cursor(this.#file, imageOffset + snapshot.l1Offset + first * 8)
    const table = new Uint8Array(clusterBytes)
    for (let index = 0; index < tables; index += 1) {
      await l1.need(8, 'the L1 table of a snapshot')
      const entry = entryAt(l1.bytes, l1.at)
      const what = `L1 entry ${first + index}`
      l1.at += 8
      if (entry.offset === 0) {
        this.#endAt(index * spanBytes)
        return
      }
      const offset = this.#checked(entry.offset, clusterBytes, header, what)
      if ((await this.#file.read(table, offset)) < clusterBytes) {
        this.#refuse('truncated', `${what}: its L2 table at ${offset} is outside the file`)
      }
      if (!this.#mapTable(table, index * spanBytes, header)) return
    }
  }

  /** @returns whether it has no hole */
  #mapTable(table: Uint8Array, begin: number, header: Qcow2Header): boolean {
    const { clusterBytes, hasExtendedL2 } = header
    const entryBytes = hasExtendedL2 ? 16 : 8
    const end = Math.min(this.endOffset, begin + (table.length / entryBytes) * clusterBytes)
    for (let offset = begin, at = 0; offset < end; offset += clusterBytes, at += entryBytes) {
      const needed = Math.min(clusterBytes, this.endOffset - offset)
      const what = `the cluster at ${offset} of its state`
      const entry = entryAt(table, at)
      if (entry.isCompressed) this.#refuse('refused', `${what} is compressed`)
      if (entry.offset === 0 || (entry.isZero && !hasExtendedL2)) {
        this.#endAt(offset)
        return false
      }
      const fileOffset = this.#checked(entry.offset, needed, header, what)
      if (hasExtendedL2 && !isAllocated(table, at, Math.ceil((needed * 32) / clusterBytes))) {
        this.#refuse('damaged', `${what} is allocated in part`)
      }
      this.#add(offset, fileOffset, needed)
    }
    return true
  }

  /** Notes the first hole; what follows is not looked up. */
  #endAt(offset: number): void {
    this.#add(offset, HOLE, this.endOffset - offset)
  }

  /** The offset in the file of something that the image must contain. */
  #checked(offset: number, lengthBytes: number, header: Qcow2Header, what: string): number {
    if (offset % header.clusterBytes !== 0) {
      this.#refuse('damaged', `${what}: ${offset} is not the offset of a cluster`)
    }
    const fileOffset = header.imageOffset + offset
    if (fileOffset + lengthBytes > this.#file.endOffset) {
      this.#refuse('truncated', `${what}, at ${fileOffset}, is outside the file`)
    }
    return fileOffset
  }

  #add(offset: number, fileOffset: number, lengthBytes: number): void {
    const last = (this.#count - 1) * Extent.stride
    const lastBytes = this.#extents[last + Extent.lengthBytes] ?? 0
    const next = fileOffset - lastBytes
    if (this.#count > 0 && this.#extents[last + Extent.fileOffset] === next) {
      this.#extents[last + Extent.lengthBytes] = lastBytes + lengthBytes
      return
    }
    if (this.#count === MOST_EXTENTS) this.#refuse('refused', TOO_SCATTERED)
    const at = this.#count * Extent.stride
    if (at === this.#extents.length) {
      const grown = new Float64Array(at * 2)
      grown.set(this.#extents)
      this.#extents = grown
    }
    this.#extents.set([offset, fileOffset, lengthBytes], at)
    this.#count += 1
  }

  #refuse(kind: 'truncated' | 'damaged' | 'refused', message: string, offset = 0): never {
    throw new SavedFileError(kind, { path: this.path, inside: this.inside, offset }, message)
  }
}

/** What to do with a state that is in too many pieces. */
export const TOO_SCATTERED =
  'the state is in too many pieces of the file: load it in QEMU (-loadvm), and save it with ' +
  'migrate "file:PATH"'

/** An entry of an L1 or L2 table. Offsets of 2^53 and more are outside any file. */
function entryAt(
  bytes: Uint8Array,
  at: number,
): { offset: number; isCompressed: boolean; isZero: boolean } {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, 8)
  const high = view.getUint32(0)
  const low = view.getUint32(4)
  return {
    offset: (high & OFFSET_HIGH_MASK) * 2 ** 32 + ((low & OFFSET_LOW_MASK) >>> 0),
    isCompressed: (high & 0x40000000) !== 0,
    isZero: (low & 1) !== 0,
  }
}

/** Whether the first subclusters of an extended L2 entry are allocated, and not zero. */
function isAllocated(bytes: Uint8Array, at: number, count: number): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at + 8, 8)
  const zero = view.getUint32(0)
  const allocated = view.getUint32(4)
  const mask = count === SUBCLUSTERS ? 0xffffffff : 2 ** count - 1
  return (allocated & mask) >>> 0 === mask && (zero & mask) === 0
}
