/** Opens a saved VM of any format whose pages can be read in place. */
import type { PageBitmap } from '../ram/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import { Cursor } from './cursor.js'
import { FileBytes } from './file-bytes.js'
import { type IndexPlace, type IndexReport, readIndexedBody } from './indexed-body.js'
import { streamPlace } from './index-file.js'
import { type LibvirtImage, readLibvirtImage } from './libvirt.js'
import {
  FIRST_SHARED_FILE,
  Scratch,
  fileRuns,
  mappedRuns,
  ownFileRuns,
  stateRuns,
} from './page-runs.js'
import { readQcow2Header } from './qcow2-header.js'
import { type Snapshot, chooseSnapshot, readSnapshots } from './qcow2-snapshots.js'
import { Qcow2State } from './qcow2-state.js'
import { type SavedFormat, notSaved, recognizeBytes } from './recognize.js'
import { runStateOf } from './run-state.js'
import { SavedFileError } from './saved-error.js'
import { SharedMemory } from './shared-memory.js'
import { type StreamBody, readBody } from './stream-body.js'
import { type StreamHead, readHead } from './stream-head.js'

export interface SavedOptions {
  /** Where the saved VM begins in the file or block device; default 0. */
  readonly offset?: number
  /** Name or id of a snapshot of a qcow2 image; default the only one. */
  readonly snapshot?: string
  /**
   * File for the index of a stream; false: it is neither read nor written; default beside the file.
   * A file that exists and is not an index is never replaced.
   */
  readonly index?: string | false
  /**
   * Path of the memory backend's file, by the name of a RAM block that x-ignore-shared has left out
   * of a mapped-ram file.
   */
  readonly memory?: ReadonlyMap<string, string>
}

export interface SavedBlock {
  readonly name: string
  readonly lengthBytes: number
  /** Where the pages are, see {@link SavedRun}. */
  readonly runs: Float64Array
  /** Pages that are in the file; all others are zero. */
  readonly data: PageBitmap
}

/** A saved VM, open. Its pages are read from {@link SavedImage.fds} by the runs of each block. */
export class SavedImage {
  readonly path: string
  /** The beginning of the names of files beside it: the path, and the offset or snapshot. */
  readonly place: string
  readonly format: SavedFormat
  readonly machineType: string
  /** The configuration element, without capabilities that only describe the file. */
  readonly configuration: Uint8Array
  readonly ramSectionId: number
  /** FULL sections that QEMU loads before RAM; empty without devices with early setup. */
  readonly earlySections: Uint8Array
  /** The FULL sections of all other devices, unchanged. */
  readonly devices: Uint8Array
  /** JSON with the sizes of the devices, if the file has it. */
  readonly description: Uint8Array | undefined
  readonly blocks: readonly SavedBlock[]
  /** QEMU's run state when it was saved, such as `running`; libvirt's image always says `paused`. */
  readonly runState: string | undefined
  /** Whether the guest ran when it was saved; undefined if that is not in the file. */
  readonly wasRunning: boolean | undefined
  readonly libvirt: LibvirtImage | undefined
  readonly snapshot: Snapshot | undefined
  /** Undefined for a mapped-ram file, which needs no index. */
  readonly index: IndexReport | undefined
  /** Whether the whole file is a stream that any reader of a migration takes. */
  readonly isPlainStream: boolean
  readonly #file: FileBytes
  readonly #scratch: Scratch
  readonly #memory: SharedMemory

  /** Use {@link openSaved}. */
  constructor(contents: SavedContents, blocks: readonly SavedBlock[], others: OtherMemory) {
    const { file, format, head, place, body, libvirt, snapshot, index } = contents
    this.path = file.path
    this.place = place
    this.format = format
    this.machineType = head.machineType
    this.configuration = head.configuration
    this.ramSectionId = head.ramSectionId
    this.earlySections = head.earlySections
    this.devices = body.devices
    this.description = body.description
    this.blocks = blocks
    this.runState = runStateOf(body.devices)
    this.wasRunning =
      libvirt?.wasRunning ?? (this.runState === undefined ? undefined : this.runState === 'running')
    this.libvirt = libvirt
    this.snapshot = snapshot
    this.index = index
    this.isPlainStream = format === 'stream' && body.isPlain && place === file.path
    this.#file = file
    this.#scratch = others.scratch
    this.#memory = others.memory
  }

  /** The descriptors that the column `file` of a run counts. They are closed by {@link close}. */
  get fds(): readonly number[] {
    const { fd } = this.#scratch
    const { fds } = this.#memory
    if (fd === -1 && fds.length === 0) return [this.#file.fd]
    // Each has its place, also if there is no scratch memory.
    return [this.#file.fd, fd === -1 ? this.#file.fd : fd, ...fds]
  }

  /** Length of the file or block device. */
  get fileBytes(): number {
    return this.#file.endOffset
  }

  /** Whether a file has changed since it was opened; what was read may not fit together then. */
  get hasChanged(): boolean {
    return this.#file.hasChanged || this.#memory.hasChanged
  }

  close(): void {
    this.#scratch.close()
    this.#memory.close()
    this.#file.close()
  }
}

/** Memory that is not in the file. */
interface OtherMemory {
  readonly scratch: Scratch
  readonly memory: SharedMemory
}

interface SavedContents {
  readonly file: FileBytes
  readonly format: SavedFormat
  readonly head: StreamHead
  /** See {@link SavedImage.place}. */
  readonly place: string
  readonly body: StreamBody
  readonly state?: Qcow2State
  readonly libvirt?: LibvirtImage
  readonly snapshot?: Snapshot
  readonly index?: IndexReport
}

/**
 * Opens a saved VM. A plain stream is read once to index its pages, unless an index is there.
 *
 * @throws SavedFileError that names the file, the offset and the field; PostcopyError with the errno
 *   name if the file cannot be opened or read; `ERR_FILE_EXISTS` if the option `index` names a file
 *   that is not an index
 */
export async function openSaved(path: string, options: SavedOptions = {}): Promise<SavedImage> {
  const file = FileBytes.open(path)
  const others = { scratch: new Scratch(), memory: new SharedMemory() }
  try {
    const contents = await readContents(file, options)
    others.memory.open(path, contents.head.blocks, options.memory ?? new Map())
    return new SavedImage(contents, await blocksOf(contents, others), others)
  } catch (error) {
    others.scratch.close()
    others.memory.close()
    file.close()
    throw error
  }
}

async function readContents(file: FileBytes, options: SavedOptions): Promise<SavedContents> {
  const { offset = 0 } = options
  const format = await recognizeBytes(file, offset)
  checkSnapshotOption(file.path, format, options.snapshot)
  switch (format) {
    case 'stream':
    case 'mapped-ram':
      return readStreamAt(file, format, offset, options)
    case 'libvirt': {
      const libvirt = await readLibvirtImage(new Cursor(file, offset))
      if (libvirt.format !== 'raw' && libvirt.format !== 'sparse') {
        throw compressed(file.path, `libvirt's image is compressed with ${libvirt.format}`)
      }
      const contents = await readStreamAt(file, format, libvirt.payloadOffset, options)
      return { ...contents, libvirt }
    }
    case 'qcow2':
      return readSnapshotState(file, options)
    case 'gzip':
    case 'zstd':
    case 'xz':
    case 'bzip2':
    case 'lzop':
      throw compressed(file.path, `it is compressed with ${format}`)
    default:
      throw notSaved(file.path, offset, format)
  }
}

/** @throws SavedFileError if only another format has snapshots */
export function checkSnapshotOption(path: string, format: SavedFormat, snapshot?: string): void {
  if (snapshot === undefined || format === 'qcow2') return
  throw new SavedFileError('snapshot', { path }, `only a qcow2 image has snapshots, not this file`)
}

function compressed(path: string, what: string): SavedFileError {
  const advice =
    'its pages cannot be read in place. `postcopy resume` and `openUnpacked` unpack it into a directory'
  return new SavedFileError('refused', { path }, `${what}: ${advice}`)
}

async function readStreamAt(
  file: FileBytes,
  format: SavedFormat,
  begin: number,
  options: SavedOptions,
): Promise<SavedContents> {
  const { offset = 0 } = options
  const place = streamPlace(file.path, { offset })
  const cursor = new Cursor(file, begin)
  const head = await readHead(cursor)
  if (head.isMappedRam) return { file, format, head, place, body: await readBody(cursor, head) }
  const indexPlace = indexPlaceOf(place, options)
  return { file, format, head, place, ...(await bodyOf(cursor, head, file, indexPlace)) }
}

async function readSnapshotState(file: FileBytes, options: SavedOptions): Promise<SavedContents> {
  const { offset = 0 } = options
  const cursor = new Cursor(file, offset)
  const header = await readQcow2Header(cursor)
  const snapshot = chooseSnapshot(file.path, await readSnapshots(cursor, header), options.snapshot)
  const state = await Qcow2State.open(file, header, snapshot)
  const stream = new Cursor(state, 0)
  const head = await readHead(stream)
  const place = streamPlace(file.path, { offset, snapshot: snapshot.id })
  const indexed = await bodyOf(stream, head, file, indexPlaceOf(place, options))
  return { file, format: 'qcow2', head, place, ...indexed, state, snapshot }
}

function indexPlaceOf(place: string, { index }: SavedOptions): IndexPlace | undefined {
  if (index === false) return undefined
  return { file: index ?? `${place}.postcopy-index`, isNamed: index !== undefined }
}

async function bodyOf(
  cursor: Cursor,
  head: StreamHead,
  file: FileBytes,
  place: IndexPlace | undefined,
): Promise<{ body: StreamBody; index?: IndexReport }> {
  if (place === undefined) return { body: await readBody(cursor, head) }
  return readIndexedBody(cursor, head, file, place)
}

async function blocksOf(
  { head, body, state }: SavedContents,
  { scratch, memory }: OtherMemory,
): Promise<SavedBlock[]> {
  const blocks: SavedBlock[] = []
  for (const [index, { name, lengthBytes, mapped }] of head.blocks.entries()) {
    if (mapped !== undefined) {
      const runs = mappedRuns(lengthBytes / TARGET_PAGE_SIZE, mapped)
      blocks.push({ name, lengthBytes, runs, data: mapped.data })
      continue
    }
    const shared = memory.find(name, lengthBytes)
    if (shared !== undefined) {
      const { file, data } = shared
      const runs = ownFileRuns(lengthBytes / TARGET_PAGE_SIZE, FIRST_SHARED_FILE + file)
      blocks.push({ name, lengthBytes, runs, data })
      continue
    }
    const pages = body.pages[index]
    if (pages === undefined) continue
    const { rows, data } = pages
    const runs = state === undefined ? fileRuns(rows) : await stateRuns(rows, state, scratch)
    blocks.push({ name, lengthBytes, runs, data })
  }
  return blocks
}
