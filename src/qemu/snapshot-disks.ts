/** New overlays for the disks of a running QEMU, so that those of a parked VM stay as they are. */
import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import { PostcopyError } from '../errors.js'
import { plainPath, type Disk } from './disks.js'
import type { QmpClient } from './qmp-client.js'

/** An overlay that QEMU will create. */
export interface PlannedOverlay {
  readonly disk: Disk
  readonly path: string
}

export interface OverlayPlan {
  /** Working directory of QEMU. */
  readonly directory: string
  /** Where the overlays go; default: beside each disk. */
  readonly folder: string | undefined
  /** Distinguishes the files from those of earlier snapshots. */
  readonly suffix: string
}

/** @throws PostcopyError `ERR_DISK_SNAPSHOT` for a disk that can have no overlay */
export function planOverlays(disks: readonly Disk[], plan: OverlayPlan): PlannedOverlay[] {
  const { directory, folder, suffix } = plan
  return disks.map((disk, index) => {
    const base = plainPath(disk.file, directory)
    if (base === undefined) {
      throw refused(`${disk.name} (${disk.file}) is not a plain file, so it can have no overlay`)
    }
    const name = `${basename(base)}.${index}-${suffix}.qcow2`
    const path = folder === undefined ? `${base}.${index}-${suffix}.qcow2` : join(folder, name)
    if (existsSync(path)) throw refused(`${path} exists`)
    return { disk, path }
  })
}

/**
 * QEMU creates all overlays, or none.
 *
 * @throws QmpRefusal
 */
export async function takeOverlays(
  client: QmpClient,
  overlays: readonly PlannedOverlay[],
): Promise<void> {
  const actions = overlays.map(({ disk, path }) => ({
    type: 'blockdev-snapshot-sync',
    data: {
      'node-name': disk.nodeName,
      'snapshot-file': path,
      'snapshot-node-name': `postcopy-${overlayId()}`,
      format: 'qcow2',
      mode: 'absolute-paths',
    },
  }))
  await client.execute('transaction', { actions })
}

let lastOverlay = 0

/** A node name has at most 31 characters, and must be new in that QEMU. */
function overlayId(): string {
  lastOverlay += 1
  return `${Date.now().toString(36)}-${lastOverlay}`
}

function refused(why: string): PostcopyError {
  return new PostcopyError('ERR_DISK_SNAPSHOT', why)
}
