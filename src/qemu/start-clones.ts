/** Starts the QEMUs into which a parked VM is resumed. */
import { mkdirSync, rmSync } from 'node:fs'
import { basename } from 'node:path'
import { errorToRecord, PostcopyError } from '../errors.js'
import { checkRecorded, findDisks, makeOverlays, planBackings } from './clone-disks.js'
import {
  checkClash,
  checkMemoryFiles,
  chooseCommand,
  separateSockets,
  type QemuCommand,
} from './command.js'
import { MigrationSettings } from './migration-settings.js'
import { readOwnOrigin } from './origin-file.js'
import type { Backing } from './overlay.js'
import { PrivateFolder } from './private-folder.js'
import { StartedQemu } from './started-qemu.js'

export interface StartOptions {
  /** The command after `--`; empty: the recorded one. */
  readonly words: readonly string[]
  readonly count: number
  /** The folder for the overlays of writable disks. */
  readonly disks?: string
  /** Let the guest write to the disks of the parked VM. */
  readonly shareDisks?: boolean
  /** The receiving end of this capability is turned on. */
  readonly preempt?: boolean
  readonly note?: (text: string) => void
}

/** A QEMU that waits for the VM at {@link uri}. */
export class StartedClone {
  readonly qemu: StartedQemu
  readonly uri: string
  /** Its overlays. */
  readonly disks: readonly string[]

  constructor(qemu: StartedQemu, uri: string, disks: readonly string[]) {
    this.qemu = qemu
    this.uri = uri
    this.disks = disks
  }

  /** Ends QEMU, and removes what was made for it: its guest has never run. */
  async discard(): Promise<void> {
    await this.qemu.end()
    removeAll(this.disks)
    this.qemu.folder.remove()
  }
}

interface Plan {
  readonly command: QemuCommand
  readonly found: ReturnType<typeof findDisks>
  /** Empty if the disks are shared. */
  readonly backings: readonly Backing[]
}

/**
 * Starts all of them, or none.
 *
 * @param directory - of the parked VM
 * @throws PostcopyError `ERR_NO_LAUNCH_RECORD`, `ERR_DISK_…`, `ERR_CLONES_CLASH`,
 *   `ERR_MEMORY_FILE`, `ERR_QEMU_START`
 */
export async function startClones(
  directory: string,
  options: StartOptions,
): Promise<StartedClone[]> {
  const plan = planClones(directory, options)
  const starts = Array.from({ length: options.count }, () => startOne(plan, options))
  const results = await Promise.allSettled(starts)
  const failed = results.find((result) => result.status === 'rejected')
  const clones = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  if (failed === undefined) return clones
  await Promise.all(clones.map((clone) => clone.discard()))
  throw failed.reason
}

function planClones(directory: string, options: StartOptions): Plan {
  const { words, count, disks, shareDisks = false } = options
  const origin = readOwnOrigin(directory, words.length === 0)
  const command = chooseCommand(words, origin)
  if (count > 1) checkClash(command.args, command.directory)
  checkMemoryFiles(command.args, command.directory)
  const found = findDisks(command.args, command.directory)
  const recorded = origin?.disks ?? []
  checkRecorded(found, recorded, command.isRecorded)
  if (shareDisks) return { command, found, backings: [] }
  const backings = planBackings(found, recorded)
  if (backings.length > 0 && disks === undefined) {
    const names = found.disks.map(({ option }) => option).join('; ')
    throw new PostcopyError(
      'ERR_DISK_OVERLAY',
      `the guest writes to disks: ${names}. --disks DIR gives each clone overlays in that folder; --share-disks lets it write to the disks themselves, and then the VM cannot be resumed again`,
    )
  }
  if (disks !== undefined) makeFolder(disks)
  return { command, found, backings }
}

async function startOne(
  { command, found, backings }: Plan,
  options: StartOptions,
): Promise<StartedClone> {
  const folder = PrivateFolder.create()
  const made: string[] = []
  let qemu: StartedQemu | undefined
  try {
    const args = [...command.args]
    const prefix = basename(folder.path).replace('postcopy-', '')
    makeOverlays(args, found.disks, backings, { folder: options.disks ?? '', prefix, made })
    const moved = separateSockets(args, {
      folder: folder.path,
      directory: command.directory,
      isOneOfMany: options.count > 1,
    })
    for (const text of moved) options.note?.(text)
    qemu = await StartedQemu.start({ ...command, args }, folder)
    const on = ['postcopy-ram', ...(options.preempt === true ? ['postcopy-preempt'] : [])]
    await MigrationSettings.apply(qemu.client, { on, off: ['multifd'], parameters: {} })
    const uri = folder.uri('migration')
    await qemu.client.execute('migrate-incoming', { uri })
    return new StartedClone(qemu, uri, made)
  } catch (error) {
    await qemu?.end()
    removeAll(made)
    folder.remove()
    throw error
  }
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  } catch (error) {
    const { code } = errorToRecord(error)
    throw new PostcopyError(code, `${folder} cannot be made (${code})`, { cause: error })
  }
}

function removeAll(files: readonly string[]): void {
  for (const file of files) rmSync(file, { force: true })
}
