/** Examines how a QEMU that is being parked was started, and its disks. */
import { errorToRecord } from '../errors.js'
import { printable } from '../printable.js'
import { fileState, plainPath, type Disk } from './disks.js'
import type { Origin, RecordedDisk } from './origin-file.js'
import type { LaunchRecord } from './qemu-process.js'
import type { PlannedOverlay } from './snapshot-disks.js'
import type { VmMonitor } from './vm-monitor.js'

export interface ExamineOriginOptions {
  /** The VM's state when parking began. */
  readonly runState: string
  /** Of QEMU's process: relative paths of disks begin there. */
  readonly directory: string
  /** Disks below them are recorded, not the overlays. */
  readonly overlays: readonly PlannedOverlay[]
  readonly launch?: LaunchRecord
  readonly note?: (text: string) => void
}

/**
 * Call when the guest is stopped, because it writes to its disks until then.
 *
 * @throws QmpError
 */
export async function examineOrigin(vm: VmMonitor, options: ExamineOriginOptions): Promise<Origin> {
  const { runState, overlays, launch } = options
  const planned = new Map(overlays.map(({ disk, path }) => [path, disk]))
  const disks = (await vm.disks()).map((disk) => planned.get(disk.file) ?? disk)
  return {
    wasRunning: runState === 'running',
    ...(await vm.vcpus()),
    disks: disks.map((disk) => recordDisk(disk, options)),
    ...(launch === undefined ? {} : { launch }),
  }
}

function recordDisk(disk: Disk, { directory, note }: ExamineOriginOptions): RecordedDisk {
  const { name, file, format, isReadOnly, virtualSizeBytes } = disk
  const backing = disk.backing.flatMap((below) => plainPath(below, directory) ?? [])
  const recorded = { name, file, format, isReadOnly, virtualSizeBytes, backing }
  const path = plainPath(file, directory)
  if (path === undefined) return recorded
  try {
    return { ...recorded, state: fileState(path) }
  } catch (error) {
    note?.(`the disk ${printable(name)} cannot be checked later: ${errorToRecord(error).message}`)
    return recorded
  }
}
