/**
 * A parked VM, ready to be sent: a machine that never runs here. Its RAM is the files themselves,
 * mapped, so that any number of clones read each page from disk once.
 */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PostcopyError } from '../errors.js'
import { MemoryRegion } from '../kernel/index.js'
import type { MachineBlock, MigratableMachine } from '../migration/machine.js'
import { PageBitmap } from '../ram/page-bitmap.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import { checksumBlock, sha256 } from './checksum.js'
import {
  MANIFEST_FILE,
  MOST_MANIFEST_BYTES,
  type Manifest,
  type ParkedBlock,
  type ParkedFile,
  decodeManifest,
} from './manifest.js'

/**
 * Reads the manifest of a parked VM.
 *
 * @throws PostcopyError `ERR_PARKED_FORMAT`, `ERR_PARKED_VERSION`; `ENOENT` where there is none
 */
export function readManifest(directory: string): Manifest {
  const path = join(directory, MANIFEST_FILE)
  let text: string
  try {
    text = readBounded(path, (lengthBytes) => {
      if (lengthBytes <= MOST_MANIFEST_BYTES) return
      const found = `${path} has ${lengthBytes} bytes, the limit is ${MOST_MANIFEST_BYTES}`
      throw new PostcopyError('ERR_PARKED_FORMAT', found)
    }).toString()
  } catch (error) {
    if (error instanceof PostcopyError) throw error
    const { code = 'ERR_UNKNOWN' } = error as NodeJS.ErrnoException
    const text = `${directory} is no parked VM: its ${MANIFEST_FILE} cannot be read (${code})`
    throw new PostcopyError(code, text, { cause: error })
  }
  return decodeManifest(text, path)
}

/** Reads a small file of a parked VM. @throws PostcopyError `ERR_PARKED_DAMAGED` */
export function readParkedFile(directory: string, expected: ParkedFile): Uint8Array {
  const path = join(directory, expected.file)
  const damaged = `${path} is not what was parked: damaged`
  const bytes = readOrExplain(path, expected.lengthBytes, damaged)
  if (sha256(bytes) !== expected.sha256) throw new PostcopyError('ERR_PARKED_DAMAGED', damaged)
  return bytes
}

/**
 * The pages of a block that an incomplete VM has.
 *
 * @throws PostcopyError `ERR_PARKED_DAMAGED`
 */
export function readReceived(directory: string, block: ParkedBlock): PageBitmap {
  const bitmap = new PageBitmap(block.lengthBytes / TARGET_PAGE_SIZE)
  if (block.receivedFile === undefined) return bitmap
  const path = join(directory, block.receivedFile)
  const damaged = `${path} is not of this RAM block: damaged`
  bitmap.bytes.set(readOrExplain(path, bitmap.bytes.length, damaged))
  return bitmap
}

export interface ParkedVmOptions {
  /** Read all of RAM and compare its checksums, too; default false. */
  verify?: boolean
  /**
   * Host page of RAM blocks, in bytes, where the QEMU that gets the VM has another one than the
   * manifest says. A precopy does not tell it: a VM in huge pages then looks like any other.
   */
  pageSizes?: ReadonlyMap<string, number>
  /**
   * Take one that is incomplete, too: what a source has spilled, for a destination that has the
   * other pages. Default false.
   */
  forRecovery?: boolean
}

export class ParkedVm implements MigratableMachine {
  readonly directory: string
  readonly manifest: Manifest
  readonly machineType: string
  readonly configuration: Uint8Array
  readonly ramSectionId: number
  readonly blocks: readonly MachineBlock[]
  readonly running = false
  readonly #devices: Uint8Array

  /**
   * Opens a parked VM; nothing in its directory is ever changed.
   *
   * @throws PostcopyError `ERR_PARKED_FORMAT`, `ERR_PARKED_VERSION`, `ERR_PARKED_DAMAGED`,
   *   `ERR_PARKED_INCOMPLETE`
   */
  static open(directory: string, options: ParkedVmOptions = {}): ParkedVm {
    const manifest = readManifest(directory)
    if (manifest.state !== 'complete' && options.forRecovery !== true) {
      throw new PostcopyError(
        'ERR_PARKED_INCOMPLETE',
        `${directory} is not complete: its postcopy broke off, and pages are missing that only the other end has`,
      )
    }
    return new ParkedVm(directory, manifest, options)
  }

  private constructor(directory: string, manifest: Manifest, options: ParkedVmOptions) {
    const { verify = false, pageSizes = new Map<string, number>() } = options
    checkPageSizes(manifest, pageSizes)
    this.directory = directory
    this.manifest = manifest
    this.machineType = manifest.machineType
    this.ramSectionId = manifest.ramSectionId
    this.configuration = readParkedFile(directory, manifest.configuration)
    this.#devices = readParkedFile(directory, manifest.devices)
    const blocks: MachineBlock[] = []
    this.blocks = blocks
    try {
      for (const block of manifest.blocks) {
        const { name, lengthBytes, pageSizeBytes } = block
        const region = openBlock(join(directory, block.file), block, verify)
        blocks.push({
          name,
          region,
          lengthBytes,
          pageSizeBytes: pageSizes.get(name) ?? pageSizeBytes,
          ...(manifest.state === 'complete' ? {} : { available: readReceived(directory, block) }),
        })
      }
    } catch (error) {
      this.close()
      throw error
    }
  }

  start(): void {
    // It runs where it is resumed.
  }

  async stop(): Promise<void> {
    await Promise.resolve()
  }

  saveDevices(): Uint8Array {
    return this.#devices
  }

  loadDevice(idstr: string): never {
    throw new PostcopyError('ERR_DEVICE_STATE', `${idstr}: a parked VM does not take devices`)
  }

  finishLoading(): never {
    return this.loadDevice('the end of loading')
  }

  resumeAfterLoad(): void {
    this.finishLoading()
  }

  vcpuThreadIds(): number[] {
    return []
  }

  /** Gives the mappings back. May be called twice. */
  close(): void {
    for (const { region } of this.blocks) region.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

/** @throws PostcopyError `ERR_INVALID_BLOCK` for a block that is not there, or not whole pages */
function checkPageSizes(manifest: Manifest, pageSizes: ReadonlyMap<string, number>): void {
  for (const [name, bytes] of pageSizes) {
    const block = manifest.blocks.find((candidate) => candidate.name === name)
    const isFit = bytes >= 4096 && Number.isInteger(Math.log2(bytes))
    if (block !== undefined && isFit && block.lengthBytes % bytes === 0) continue
    const names = manifest.blocks.map((candidate) => candidate.name).join(', ')
    const text = `"${name}" cannot have pages of ${bytes} bytes: the blocks are ${names}`
    throw new PostcopyError('ERR_INVALID_BLOCK', text)
  }
}

function openBlock(
  path: string,
  block: { readonly name: string; readonly lengthBytes: number; readonly checksum?: string },
  verify: boolean,
): MemoryRegion {
  const fd = openOrExplain(path)
  try {
    const { size } = fstatSync(fd)
    if (size !== block.lengthBytes) {
      const text = `${path} has ${size} bytes, RAM block "${block.name}" has ${block.lengthBytes}: damaged`
      throw new PostcopyError('ERR_PARKED_DAMAGED', text)
    }
    if (verify && checksumBlock(fd, block.lengthBytes) !== block.checksum) {
      const text = `${path} (RAM block "${block.name}") is not what was parked: damaged`
      throw new PostcopyError('ERR_PARKED_DAMAGED', text)
    }
    return MemoryRegion.openFile({ fd, lengthBytes: block.lengthBytes })
  } finally {
    closeSync(fd)
  }
}

function openOrExplain(path: string): number {
  return explained(path, () => openSync(path, 'r'))
}

/** Reads a file of exactly that length; any other one is not read. */
function readOrExplain(path: string, lengthBytes: number, damaged: string): Uint8Array {
  const check = (found: number): void => {
    if (found !== lengthBytes) throw new PostcopyError('ERR_PARKED_DAMAGED', damaged)
  }
  return explained(path, () => readBounded(path, check))
}

/** @param check - gets the length before anything is read, and throws where it is wrong */
function readBounded(path: string, check: (lengthBytes: number) => void): Buffer {
  const fd = openSync(path, 'r')
  try {
    check(fstatSync(fd).size)
    return readFileSync(fd)
  } finally {
    closeSync(fd)
  }
}

function explained<T>(path: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof PostcopyError) throw error
    const { code = 'ERR_UNKNOWN' } = error as NodeJS.ErrnoException
    const text = `${path} cannot be read (${code}), but belongs to the parked VM`
    throw new PostcopyError('ERR_PARKED_DAMAGED', text, { cause: error })
  }
}
