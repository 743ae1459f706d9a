/** The disks of a QEMU: what `query-block` reports, and whether their files have changed since. */
import { createHash } from 'node:crypto'
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { resolve } from 'node:path'
import { PostcopyError, errorToRecord } from '../errors.js'
import { UntrustedFields } from '../park/internal.js'
import { printable } from '../printable.js'

/** Enough for the header of a qcow2 image with its extensions. */
const HEADER_BYTES = 4096
const CODE = 'ERR_QMP_PROTOCOL'

/** A block device with a medium. */
export interface Disk {
  /** The guest's device, or the name of the drive. */
  readonly name: string
  readonly nodeName: string
  /** As QEMU names it: a path, `json:…`, or the address of another protocol. */
  readonly file: string
  readonly format: string
  readonly isReadOnly: boolean
  readonly virtualSizeBytes: number
  /** The images below it, named like {@link file}. */
  readonly backing: readonly string[]
}

/** The state of a disk's file. */
export interface FileState {
  /** Absolute. */
  readonly path: string
  readonly lengthBytes: number
  /** Nanoseconds since 1970, as decimal digits. */
  readonly modifiedNs: string
  /** SHA-256 of its first 4096 bytes; of a qcow2 image only. */
  readonly headerSha256?: string
}

/** @param answer - of `query-block` */
export function parseDisks(answer: unknown): Disk[] {
  const devices: unknown[] = Array.isArray(answer) ? answer : []
  return devices.flatMap((value) => {
    const device = new UntrustedFields(value, 'query-block of QEMU', CODE)
    const inserted = device.optional('inserted')
    if (inserted === undefined) return []
    const qdev = device.raw('qdev')
    const named = [device.raw('device'), qdev, inserted.raw('node-name')].find(
      (name) => typeof name === 'string' && name !== '',
    )
    const nodeName = inserted.raw('node-name')
    return [
      {
        name: typeof named === 'string' ? named : 'a disk',
        nodeName: typeof nodeName === 'string' ? nodeName : '',
        file: inserted.text('file'),
        format: inserted.text('drv'),
        isReadOnly: inserted.raw('ro') === true,
        virtualSizeBytes: inserted.object('image').count('virtual-size'),
        backing: backingFiles(inserted.object('image')),
      },
    ]
  })
}

function backingFiles(image: UntrustedFields): string[] {
  const files: string[] = []
  for (let below = image.optional('backing-image'); below !== undefined;) {
    files.push(below.text('filename'))
    below = below.optional('backing-image')
  }
  return files
}

/**
 * The path of a disk's file.
 *
 * @param directory - working directory of QEMU
 * @returns undefined if it is not a plain file, or its name is not UTF-8
 */
export function plainPath(file: string, directory: string): string | undefined {
  const path = file.startsWith('file:') ? file.slice('file:'.length) : file
  if (path === '' || /^[a-z][a-z0-9+.-]*:/.test(path) || path.includes('\ufffd')) return undefined
  return resolve(directory, path)
}

/** @throws PostcopyError with the errno name; `ERR_FILE_KIND` if it is not a regular file */
export function fileState(path: string): FileState {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      const stat = fstatSync(fd, { bigint: true })
      if (!stat.isFile()) throw new PostcopyError('ERR_FILE_KIND', `${path} is not a regular file`)
      const header = Buffer.alloc(HEADER_BYTES)
      const head = header.subarray(0, readSync(fd, header, 0, HEADER_BYTES, 0))
      const state = {
        path,
        lengthBytes: Number(stat.size),
        modifiedNs: String(stat.mtimeNs),
      }
      if (!isQcow2(head)) return state
      return { ...state, headerSha256: createHash('sha256').update(head).digest('hex') }
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    if (error instanceof PostcopyError) throw error
    const { code } = errorToRecord(error)
    throw new PostcopyError(code, `${path}: the disk cannot be read (${code})`, { cause: error })
  }
}

export function isQcow2(head: Uint8Array): boolean {
  return Buffer.from(head.subarray(0, 4)).toString('latin1') === 'QFI\xfb'
}

/** @throws PostcopyError `ERR_DISK_CHANGED`, or as {@link fileState} */
export function checkUnchanged(recorded: FileState): void {
  const { path, lengthBytes, modifiedNs, headerSha256 } = recorded
  const now = fileState(path)
  const differences = [
    ...(now.lengthBytes === lengthBytes
      ? []
      : [`it has ${now.lengthBytes} bytes, and had ${lengthBytes}`]),
    ...(now.modifiedNs === modifiedNs
      ? []
      : [`it was written at ${isoTime(now.modifiedNs)}, and before at ${isoTime(modifiedNs)}`]),
    ...(now.headerSha256 === headerSha256 ? [] : ['its qcow2 header differs']),
  ]
  if (differences.length === 0) return
  throw new PostcopyError(
    'ERR_DISK_CHANGED',
    `${printable(path)} has changed since the VM was parked (${differences.join('; ')}): the guest would find other data than it has in memory. Restore the disk, or give another command after --`,
  )
}

function isoTime(nanoseconds: string): string {
  const milliseconds = Number(BigInt(nanoseconds) / 1_000_000n)
  return Math.abs(milliseconds) < 8.64e15 ? new Date(milliseconds).toISOString() : nanoseconds
}
