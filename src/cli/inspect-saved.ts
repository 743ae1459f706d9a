/** The output of `inspect` for files of QEMU and libvirt that are not plain streams. */
import { findCache } from '../park/index.js'
import { printable } from '../printable.js'
import {
  type PackedReport,
  type SavedReport,
  SavedFileError,
  type Snapshot,
  inspectPacked,
  inspectSaved,
  listSnapshots,
  recognize,
} from '../sources/index.js'
import { TARGET_PAGE_SIZE, formatByteSize } from '../units.js'
import { statUserFile } from '../user-files.js'
import { count, deviceLines, table, text } from './inspect-text.js'
import { type SavedFileOptions, savedOptionsOf } from './options.js'

type PackedObject = { readonly kind: 'packed' } & PackedReport & {
    /** The directory that the file was unpacked into. */
    readonly cache: Awaited<ReturnType<typeof findCache>>
  }

/** What `inspect --json` prints. */
export type SavedObject =
  | ({ readonly kind: 'saved-vm' } & SavedReport)
  | PackedObject
  | { readonly kind: 'snapshots'; readonly snapshots: readonly Snapshot[] }

/**
 * @returns undefined for a pipe, and for a stream that is better decoded as a whole
 * @throws PostcopyError as {@link inspectSaved}
 */
export async function inspectSavedFile(
  path: string,
  options: SavedFileOptions,
): Promise<SavedObject | undefined> {
  const stat = path === '-' ? undefined : statUserFile(path)
  if (stat?.isFile() !== true && stat?.isBlockDevice() !== true) return undefined
  const { offset, snapshot } = options
  const packed = await inspectPacked(path, offset)
  if (packed !== undefined) {
    return { kind: 'packed', ...packed, cache: await findCache(path, offset) }
  }
  const snapshots = snapshot === undefined ? await listSnapshots(path, offset) : undefined
  const states = snapshots?.filter(({ stateBytes }) => stateBytes > 0) ?? []
  if (snapshots !== undefined && states.length !== 1) return { kind: 'snapshots', snapshots }
  const isOption = Object.keys(savedOptionsOf(options)).length > 0
  const format = await recognize(path, offset)
  const isDecoded = ['stream', 'unknown', 'zeros', 'empty'].includes(format)
  if (!isDecoded || isOption) return { kind: 'saved-vm', ...(await inspectSaved(path, options)) }
  return format === 'stream' ? inspectOddStream(path, options) : undefined
}

/** A background snapshot, or a stream that other bytes follow: a migration never is either. */
async function inspectOddStream(
  path: string,
  options: SavedFileOptions,
): Promise<SavedObject | undefined> {
  try {
    const report = await inspectSaved(path, { ...options, index: false })
    return report.isPlainStream ? undefined : { kind: 'saved-vm', ...report }
  } catch (error) {
    if (error instanceof SavedFileError) return undefined
    throw error
  }
}

export function describeSaved(saved: SavedObject): string {
  switch (saved.kind) {
    case 'packed':
      return describePacked(saved)
    case 'snapshots':
      return describeSnapshots(saved.snapshots)
    case 'saved-vm':
      return describeVm(saved)
  }
}

function describePacked(packed: PackedObject): string {
  const { compression, offset, compressedBytes, libvirt, head, error, cache } = packed
  const machine = head === undefined ? '' : ` of a ${printable(head.machineType)}`
  const rows = head?.blocks.map(({ name, lengthBytes }) => {
    return [printable(name), formatByteSize(lengthBytes)]
  })
  return text([
    `a stream${machine} that is compressed with ${compression}, ${count(compressedBytes)} bytes from offset ${offset} on`,
    ...(libvirt === undefined ? [] : [libvirtLine(libvirt)]),
    ...(libvirt === undefined ? [] : [`the guest ran when it was saved: ${yesOrNo(libvirt)}`]),
    ...(rows === undefined ? [] : [table(['RAM block', 'length'], rows)]),
    cacheLine(cache),
    ...(error === undefined ? [] : [`odd: ${error.message}`]),
  ])
}

function yesOrNo({ wasRunning }: { readonly wasRunning: boolean }): string {
  return wasRunning ? 'yes' : 'no'
}

function cacheLine(cache: PackedObject['cache']): string {
  if (cache === undefined) return 'not unpacked yet: postcopy resume does it, once'
  const directory = printable(cache.directory)
  if (cache.fits) return `unpacked in ${directory}`
  return `unpacked in ${directory}, but from another file: postcopy resume unpacks it again`
}

function describeSnapshots(snapshots: readonly Snapshot[]): string {
  if (snapshots.length === 0) return 'a qcow2 image without internal snapshots\n'
  return text([
    'a qcow2 image; --snapshot shows the VM of one of its snapshots',
    table(
      ['id', 'snapshot', 'saved at', 'state', 'disk'],
      snapshots.map(({ id, name, savedAt, stateBytes, diskBytes }) => [
        printable(id),
        printable(name),
        savedAt,
        stateBytes === 0 ? 'none' : formatByteSize(stateBytes),
        formatByteSize(diskBytes),
      ]),
    ),
  ])
}

function describeVm(report: SavedReport): string {
  const { format, machineType, fileBytes, libvirt, snapshot, index, runState, wasRunning } = report
  const was = wasRunning === undefined ? 'not known' : wasRunning ? 'yes' : 'no'
  return text([
    `a ${format} file of a ${printable(machineType)}, ${count(fileBytes)} bytes`,
    ...(libvirt === undefined ? [] : [libvirtLine(libvirt)]),
    ...(snapshot === undefined
      ? []
      : [`snapshot ${printable(snapshot.name)} (${printable(snapshot.id)}), ${snapshot.savedAt}`]),
    `the guest ran when it was saved: ${was} (run state ${runState ?? 'not known'})`,
    table(
      ['RAM block', 'length', 'data'],
      report.blocks.map(({ name, lengthBytes, dataPages }) => [
        printable(name),
        formatByteSize(lengthBytes),
        formatByteSize(dataPages * TARGET_PAGE_SIZE),
      ]),
    ),
    ...(report.earlyBytes === 0 ? [] : [`loaded before RAM: ${count(report.earlyBytes)} bytes`]),
    ...deviceLines(report.deviceBytes, report.devices),
    ...(index === undefined ? [] : [`index: ${printable(index.file)} (${index.state})`]),
  ])
}

function libvirtLine(libvirt: NonNullable<SavedReport['libvirt']>): string {
  const { version, format, name, uuid } = libvirt
  const domain = `domain ${printable(name ?? '?')} (${printable(uuid ?? '?')})`
  return `libvirt's image of version ${version}, ${format}: ${domain}`
}
