/** An open saved file or block device. Reads are asynchronous, in the threads of libuv. */
import { type BigIntStats, closeSync, fstatSync, read, readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { readError } from '../kernel/internal.js'
import { PostcopyError } from '../errors.js'
import { openToRead } from '../user-files.js'

const readBytes = promisify(read)
const SECTOR_BYTES = 512

/** Bytes that are read by their offset. */
export interface ByteSource {
  /** For errors. */
  readonly path: string
  /** Offset after the last byte. */
  readonly endOffset: number
  /** Bytes that are not in holes: what was really written. */
  readonly allocatedBytes: number
  /** What an offset is an offset of, for errors; undefined for the file itself. */
  readonly inside: string | undefined
  /** Reads until `target` is full or the bytes end; returns the number of bytes read. */
  read(target: Uint8Array, offset: number): Promise<number>
}

export class FileBytes implements ByteSource {
  readonly path: string
  readonly fd: number
  readonly endOffset: number
  readonly allocatedBytes: number
  readonly inside = undefined
  /** Time of the last change, in nanoseconds. */
  readonly modifiedNs: bigint
  readonly isBlockDevice: boolean
  #isClosed = false

  /** @throws PostcopyError with the errno name; `ERR_FILE_KIND` for what cannot be read twice */
  static open(path: string): FileBytes {
    const { fd } = openToRead(path)
    try {
      return new FileBytes(path, fd, fstatSync(fd, { bigint: true }))
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  private constructor(path: string, fd: number, stat: BigIntStats) {
    if (!stat.isFile() && !stat.isBlockDevice()) {
      throw new PostcopyError(
        'ERR_FILE_KIND',
        `${path} is neither a file nor a block device: save it to a file first`,
      )
    }
    this.path = path
    this.fd = fd
    this.isBlockDevice = stat.isBlockDevice()
    this.endOffset = this.isBlockDevice ? deviceBytes(path, stat) : Number(stat.size)
    this.allocatedBytes = this.isBlockDevice
      ? this.endOffset
      : Math.min(this.endOffset, Number(stat.blocks) * SECTOR_BYTES)
    this.modifiedNs = stat.mtimeNs
  }

  async read(target: Uint8Array, offset: number): Promise<number> {
    const wanted = Math.min(target.length, Math.max(0, this.endOffset - offset))
    for (let have = 0; have < wanted;) {
      const [left, at] = [wanted - have, offset + have]
      const { bytesRead } = await readBytes(this.fd, target, have, left, at).catch(
        (error: unknown) => {
          throw readError(error, this.fd, at, left)
        },
      )
      if (bytesRead === 0) return have
      have += bytesRead
    }
    return wanted
  }

  /** Whether the file has another size or time than when it was opened. */
  get hasChanged(): boolean {
    const stat = fstatSync(this.fd, { bigint: true })
    if (stat.mtimeNs !== this.modifiedNs) return true
    return !this.isBlockDevice && Number(stat.size) !== this.endOffset
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    closeSync(this.fd)
  }
}

/** `st_size` of a block device is 0; sysfs has its sectors. */
function deviceBytes(path: string, { rdev }: BigIntStats): number {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn)
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn & 0xffffffffn)
  try {
    return Number(readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'utf8')) * SECTOR_BYTES
  } catch (cause) {
    throw new PostcopyError('ERR_FILE_KIND', `${path}: the size of the device is not known`, {
      cause,
    })
  }
}
