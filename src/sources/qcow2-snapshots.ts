/**
 * The table of internal snapshots of a qcow2 image. An entry, padded to a multiple of 8 bytes:
 *
 *   u64 L1 offset   u32 L1 entries   u16 id length   u16 name length   u32 seconds   u32 nanoseconds
 *   u64 guest clock   u32 vmstate bytes   u32 length of extra data
 *   extra data: u64 vmstate bytes, which counts   u64 disk size then   …   id   name
 */
import { decodeName } from '../stream/index.js'
import { u16At } from '../stream/internal.js'
import type { Cursor } from './cursor.js'
import type { Qcow2Header } from './qcow2-header.js'
import { SavedFileError } from './saved-error.js'

const ENTRY_BYTES = 40
const MOST_SNAPSHOTS = 65_536
const MOST_EXTRA_BYTES = 1024
/** Of the whole table. */
const MOST_TABLE_BYTES = 16 * 2 ** 20

export interface Snapshot {
  readonly id: string
  readonly name: string
  /** Offset of its L1 table in the image, and the number of entries. */
  readonly l1Offset: number
  readonly l1Entries: number
  /** ISO 8601. */
  readonly savedAt: string
  /** 0: the snapshot has the disk only. */
  readonly stateBytes: number
  readonly diskBytes: number
}

/** @throws SavedFileError */
export async function readSnapshots(cursor: Cursor, header: Qcow2Header): Promise<Snapshot[]> {
  const { imageOffset, snapshotCount, snapshotsOffset } = header
  const start = imageOffset + snapshotsOffset
  if (snapshotCount > MOST_SNAPSHOTS) {
    cursor.refuse('damaged', `${snapshotCount} snapshots`, imageOffset + 60)
  }
  const snapshots: Snapshot[] = []
  cursor.seek(start)
  while (snapshots.length < snapshotCount) {
    snapshots.push(await readSnapshot(cursor, header))
    const length = cursor.offset - start
    if (length > MOST_TABLE_BYTES) {
      cursor.refuse('damaged', 'the snapshot table has more than 16 MiB', start)
    }
    cursor.seek(start + Math.ceil(length / 8) * 8)
  }
  return snapshots
}

async function readSnapshot(cursor: Cursor, { diskBytes }: Qcow2Header): Promise<Snapshot> {
  const offset = cursor.offset
  const field = 'the snapshot table'
  await cursor.need(ENTRY_BYTES, field)
  const l1Offset = await cursor.u64('the offset of the L1 table of a snapshot')
  const l1Entries = await cursor.u32(field)
  const idBytes = u16At(cursor.bytes, cursor.at)
  const nameBytes = u16At(cursor.bytes, cursor.at + 2)
  cursor.at += 4
  const seconds = await cursor.u32(field)
  cursor.at += 12
  const shortStateBytes = await cursor.u32(field)
  const extraBytes = await cursor.u32(field)
  if (extraBytes > MOST_EXTRA_BYTES) {
    cursor.refuse('damaged', `a snapshot with ${extraBytes} bytes of extra data`, offset + 36)
  }
  await cursor.need(extraBytes, field)
  const names = cursor.offset + extraBytes
  const stateBytes =
    extraBytes >= 8 ? await cursor.u64('the length of the state of a snapshot') : shortStateBytes
  const oldDiskBytes = extraBytes >= 16 ? await cursor.u64('the disk size of a snapshot') : 0
  cursor.seek(names)
  const id = await readText(cursor, idBytes)
  const name = await readText(cursor, nameBytes)
  return {
    id,
    name,
    l1Offset,
    l1Entries,
    savedAt: new Date(seconds * 1000).toISOString(),
    stateBytes,
    diskBytes: oldDiskBytes === 0 ? diskBytes : oldDiskBytes,
  }
}

async function readText(cursor: Cursor, lengthBytes: number): Promise<string> {
  if (lengthBytes === 0) return ''
  return decodeName(await cursor.take(lengthBytes, 'the name of a snapshot'))
}

/**
 * The snapshot with this id or name; the only one with a state if `wanted` is undefined.
 *
 * @throws SavedFileError `ERR_SAVED_SNAPSHOT`, which lists the snapshots
 */
export function chooseSnapshot(
  path: string,
  snapshots: readonly Snapshot[],
  wanted: string | undefined,
): Snapshot {
  const saved = snapshots.filter(({ stateBytes }) => stateBytes > 0)
  const refuse = (message: string): never => {
    throw new SavedFileError('snapshot', { path }, message)
  }
  const advice = (): string => `give --snapshot NAME, one of ${listed(saved)}`
  if (saved.length === 0) {
    const disks = 'With several disks, only one image has the state'
    const why =
      snapshots.length === 0
        ? 'a disk image without a saved VM: it has no internal snapshot'
        : `none of its ${snapshots.length} snapshots has the state of a VM. ${disks}`
    return refuse(why)
  }
  if (wanted === undefined) {
    const [only, another] = saved
    if (only !== undefined && another === undefined) return only
    return refuse(`it has ${saved.length} saved VMs: ${advice()}`)
  }
  const byId = snapshots.find(({ id }) => id === wanted)
  const named = snapshots.filter(({ name }) => name === wanted)
  const found = named.length === 1 ? named[0] : byId
  if (named.length > 1 && byId === undefined) {
    return refuse(`${named.length} snapshots are called "${wanted}": ${advice()}, by its id`)
  }
  if (found === undefined) return refuse(`there is no snapshot "${wanted}": ${advice()}`)
  if (found.stateBytes === 0) {
    return refuse(`snapshot "${wanted}" has no state of a VM, only the disk: ${advice()}`)
  }
  return found
}

const MOST_LISTED = 20

function listed(snapshots: readonly Snapshot[]): string {
  const some = snapshots.slice(0, MOST_LISTED).map(({ id, name }) => `"${name}" (${id})`)
  const more = snapshots.length - some.length
  return some.join(', ') + (more > 0 ? ` and ${more} more` : '')
}
