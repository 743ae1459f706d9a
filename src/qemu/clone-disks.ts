/** Finds the disks in QEMU's arguments, and gives a clone overlays of those that it may write. */
import { closeSync, openSync, readSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { PostcopyError } from '../errors.js'
import { printable } from '../printable.js'
import { type ObjectText, parseObjectText } from './object-text.js'
import { checkUnchanged, fileState, isQcow2, plainPath } from './disks.js'
import { OptionText } from './option-text.js'
import type { RecordedDisk } from './origin-file.js'
import { createOverlay, type Backing } from './overlay.js'

/** Options whose argument is the path of a writable disk. */
const PATH_OPTIONS = ['hda', 'hdb', 'hdc', 'hdd', 'fda', 'fdb', 'sd', 'mtdblock', 'pflash']
const FORMATS = ['qcow2', 'raw', 'qcow', 'qed', 'vdi', 'vhdx', 'vmdk', 'vpc']
/** Nodes that keep no data. */
const WITHOUT_DATA = ['null-co', 'null-aio']
const HEADER_BYTES = 32
const VIRTUAL_SIZE_AT = 24

/** A writable disk of the command line, and how to put another file in its place. */
interface FoundDisk {
  /** As the user knows it, such as `-drive file=disk.qcow2`. */
  readonly option: string
  readonly path: string
  /** As the option says. */
  readonly format: string | undefined
  /** Writes the overlay's path into the arguments. */
  readonly replace: (args: string[], overlay: string) => void
}

export interface DisksInArgs {
  readonly disks: readonly FoundDisk[]
  /** Writable disks that can have no overlay, with the reason. */
  readonly others: readonly string[]
}

/** @param directory - to which paths in `args` are relative */
export function findDisks(args: readonly string[], directory: string): DisksInArgs {
  const disks: FoundDisk[] = []
  const others: string[] = []
  for (const [at, word] of args.entries()) {
    const name = word.replace(/^--?/, '')
    const value = args[at + 1]
    if (!word.startsWith('-')) continue
    if (name === 'snapshot') others.push('-snapshot: the guest wrote to temporary files')
    if (value === undefined) continue
    const add = (found: FoundDisk | string | undefined): void => {
      if (typeof found === 'string') others.push(found)
      else if (found !== undefined) disks.push(found)
    }
    if (PATH_OPTIONS.includes(name)) add(ofPath(`-${name}`, at, value, directory))
    if (name === 'drive') add(ofDrive(at, value, directory))
  }
  const nodes = blockNodes(args)
  for (const node of nodes) {
    const found = ofNode(node, nodes, directory)
    if (typeof found === 'string') others.push(found)
    else if (found !== undefined) disks.push(found)
  }
  return { disks, others }
}

function ofPath(option: string, at: number, value: string, directory: string): FoundDisk | string {
  const path = plainPath(value, directory)
  const text = `${option} ${printable(value)}`
  if (path === undefined) return `${text}: not a plain file`
  const replace = (args: string[], overlay: string): void => {
    args[at + 1] = overlay
  }
  return { option: text, path, format: undefined, replace }
}

function ofDrive(at: number, value: string, directory: string): FoundDisk | string | undefined {
  const drive = OptionText.parse(value)
  const file = drive.get('file')
  const isReadOnly = drive.isOn('readonly') || drive.isOn('read-only')
  if (isReadOnly || drive.get('media') === 'cdrom') return undefined
  const text = `-drive ${printable(value)}`
  if (drive.isOn('snapshot')) return `${text}: the guest wrote to a temporary file`
  if (drive.keys.some((key) => key.startsWith('file.') || key === 'driver')) {
    return `${text}: give the disk as file= and format=`
  }
  if (file === undefined || file === '') return undefined
  const path = plainPath(file, directory)
  if (path === undefined) return `${text}: not a plain file`
  const format = drive.get('format')
  const replace = (args: string[], overlay: string): void => {
    drive.set('file', overlay)
    drive.set('format', 'qcow2')
    args[at + 1] = drive.toString()
  }
  return { option: text, path, format, replace }
}

interface FoundNode {
  readonly at: number
  readonly node: ObjectText
}

function blockNodes(args: readonly string[]): FoundNode[] {
  return args.flatMap((word, at) => {
    const value = args[at + 1]
    if (!/^--?blockdev$/.test(word) || value === undefined) return []
    const node = parseObjectText(value)
    return node === undefined ? [] : [{ at, node }]
  })
}

function ofNode(
  { at, node }: FoundNode,
  nodes: readonly FoundNode[],
  directory: string,
): FoundDisk | string | undefined {
  const driver = node.get('driver') ?? ''
  const name = node.get('node-name') ?? ''
  const text = `-blockdev ${printable(node.toString())}`
  if (node.isOn('read-only') || WITHOUT_DATA.includes(driver)) return undefined
  if (FORMATS.includes(driver)) {
    // A format on another node is found with that node.
    if (node.get('file') !== undefined && node.get('file.driver') === undefined) return undefined
    const path = plainPath(node.get('file.filename') ?? '', directory)
    if (node.get('file.driver') !== 'file' || path === undefined) {
      return `${text}: not a plain file`
    }
    if (isSpecial(node)) return `${text}: it has backing, size or offset`
    const replace = (args: string[], overlay: string): void => {
      node.set('driver', 'qcow2')
      node.set('file.filename', overlay)
      args[at + 1] = node.toString()
    }
    return { option: text, path, format: driver, replace }
  }
  const users = nodes.filter(({ node: other }) => other.get('file') === name)
  const isBacking = nodes.some(({ node: other }) => other.get('backing') === name)
  if (isBacking) return undefined
  const [user] = users
  if (user === undefined || users.length > 1 || driver !== 'file') {
    return `${text}: only driver=file below one format can have an overlay`
  }
  if (user.node.isOn('read-only')) return undefined
  const path = plainPath(node.get('filename') ?? '', directory)
  if (path === undefined) return `${text}: not a plain file`
  const format = user.node.get('driver') ?? ''
  if (!FORMATS.includes(format) || isSpecial(user.node)) {
    return `${text}: its format has backing, size or offset, or is not known`
  }
  const replace = (args: string[], overlay: string): void => {
    node.set('filename', overlay)
    user.node.set('driver', 'qcow2')
    args[at + 1] = node.toString()
    args[user.at + 1] = user.node.toString()
  }
  return { option: text, path, format, replace }
}

function isSpecial(node: ObjectText): boolean {
  return node.keys.some((key) => ['backing', 'size', 'offset'].includes(key))
}

/**
 * Checks that the disks are as they were when the VM was parked.
 *
 * @param isRecorded - the command is that of the parked QEMU, so all of its disks count
 * @throws PostcopyError `ERR_DISK_CHANGED`, or as `fileState`
 */
export function checkRecorded(
  { disks }: DisksInArgs,
  recorded: readonly RecordedDisk[],
  isRecorded: boolean,
): void {
  for (const disk of recorded) {
    const isUsed = isRecorded || disks.some(({ path }) => isOf(disk, path))
    if (disk.state !== undefined && isUsed) checkUnchanged(disk.state)
  }
}

/**
 * What the overlay of each disk is made of.
 *
 * @throws PostcopyError `ERR_DISK_OVERLAY` if a writable disk can have none, or as `fileState`
 */
export function planBackings(
  { disks, others }: DisksInArgs,
  recorded: readonly RecordedDisk[],
): Backing[] {
  if (others.length > 0) {
    throw new PostcopyError(
      'ERR_DISK_OVERLAY',
      `no overlay can be made for ${others.join('; ')}. --share-disks lets the guest write to its disks as they are: then the VM cannot be resumed again`,
    )
  }
  return disks.map(({ path, format }) => backingOf(path, format, recorded))
}

/** A disk may have got an overlay while its QEMU ran. */
function isOf({ state, backing }: RecordedDisk, path: string): boolean {
  return state?.path === path || backing.includes(path)
}

function backingOf(
  path: string,
  format: string | undefined,
  recorded: readonly RecordedDisk[],
): Backing {
  const known = recorded.find((disk) => isOf(disk, path))
  if (known?.state !== undefined) {
    const { virtualSizeBytes, state } = known
    return { path: state.path, format: known.format, virtualSizeBytes }
  }
  const { lengthBytes } = fileState(path)
  const header = Buffer.alloc(HEADER_BYTES)
  const fd = openSync(path, 'r')
  try {
    readSync(fd, header, 0, HEADER_BYTES, 0)
  } finally {
    closeSync(fd)
  }
  const probed = format ?? (isQcow2(header) ? 'qcow2' : 'raw')
  if (probed === 'raw') return { path, format: probed, virtualSizeBytes: lengthBytes }
  if (probed === 'qcow2' && isQcow2(header)) {
    const virtualSizeBytes = Number(header.readBigUInt64BE(VIRTUAL_SIZE_AT))
    return { path, format: probed, virtualSizeBytes }
  }
  throw new PostcopyError(
    'ERR_DISK_OVERLAY',
    `${path}: the size of a disk in format ${printable(probed)} is known only if postcopy park --qemu has recorded it`,
  )
}

/**
 * Makes the overlays of one clone, and changes its arguments to use them.
 *
 * @param made - gets the path of each overlay when it exists
 */
export function makeOverlays(
  args: string[],
  disks: readonly FoundDisk[],
  backings: readonly Backing[],
  { folder, prefix, made }: { folder: string; prefix: string; made: string[] },
): void {
  for (const [index, disk] of disks.entries()) {
    const backing = backings[index]
    if (backing === undefined) continue
    const overlay = join(resolve(folder), `${prefix}-${index}-${basename(disk.path)}.qcow2`)
    createOverlay(overlay, backing)
    made.push(overlay)
    disk.replace(args, overlay)
  }
}
