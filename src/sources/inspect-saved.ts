/** Reports the contents of a saved file, without reading its pages. */
import { type DeviceSize, sizeDevices } from '../stream/internal.js'
import { Cursor } from './cursor.js'
import { FileBytes } from './file-bytes.js'
import type { IndexReport } from './indexed-body.js'
import { type LibvirtSummary, summaryOf } from './libvirt.js'
import { type SavedOptions, openSaved } from './open-saved.js'
import { readQcow2Header } from './qcow2-header.js'
import { type Snapshot, readSnapshots } from './qcow2-snapshots.js'
import { type SavedFormat, recognizeBytes } from './recognize.js'

export interface SavedReport {
  readonly format: SavedFormat
  readonly fileBytes: number
  readonly machineType: string
  readonly ramSectionId: number
  readonly blocks: readonly {
    readonly name: string
    readonly lengthBytes: number
    /** Pages that are in the file; all others are zero. */
    readonly dataPages: number
  }[]
  readonly earlyBytes: number
  readonly deviceBytes: number
  /** Undefined if the lengths of the devices' states are not known. */
  readonly devices: readonly DeviceSize[] | undefined
  readonly runState: string | undefined
  readonly wasRunning: boolean | undefined
  readonly libvirt: LibvirtSummary | undefined
  readonly snapshot: Snapshot | undefined
  readonly index: IndexReport | undefined
  /** Whether the whole file is a stream that any reader of a migration takes. */
  readonly isPlainStream: boolean
}

/** @throws as {@link openSaved} */
export async function inspectSaved(path: string, options: SavedOptions = {}): Promise<SavedReport> {
  const image = await openSaved(path, options)
  try {
    const { earlySections, devices, description, libvirt } = image
    const all = Buffer.concat([earlySections, devices])
    return {
      format: image.format,
      fileBytes: image.fileBytes,
      machineType: image.machineType,
      ramSectionId: image.ramSectionId,
      blocks: image.blocks.map(({ name, lengthBytes, data }) => {
        return { name, lengthBytes, dataPages: data.count() }
      }),
      earlyBytes: earlySections.length,
      deviceBytes: devices.length,
      devices: description === undefined ? undefined : sizeDevices(all, description),
      runState: image.runState,
      wasRunning: image.wasRunning,
      libvirt: libvirt === undefined ? undefined : summaryOf(libvirt),
      snapshot: image.snapshot,
      index: image.index,
      isPlainStream: image.isPlainStream,
    }
  } finally {
    image.close()
  }
}

/**
 * The internal snapshots of a qcow2 image, those without the state of a VM included.
 *
 * @returns undefined if the file is not a qcow2 image
 */
export async function listSnapshots(
  path: string,
  offset = 0,
): Promise<readonly Snapshot[] | undefined> {
  const file = FileBytes.open(path)
  try {
    if ((await recognizeBytes(file, offset)) !== 'qcow2') return undefined
    const cursor = new Cursor(file, offset)
    return await readSnapshots(cursor, await readQcow2Header(cursor))
  } finally {
    file.close()
  }
}
