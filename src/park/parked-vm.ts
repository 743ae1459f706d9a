/**
 * A parked VM, ready to be sent: a machine that never runs here. Its RAM is read from its files
 * through the page cache, so that any number of clones read each page from disk once.
 */
import { closeSync, fstatSync } from 'node:fs'
import { join } from 'node:path'
import { PostcopyError } from '../errors.js'
import { checkOptionNames } from '../migration/index.js'
import { PageBitmap } from '../ram/index.js'
import { openSparseFile, type PageSourceBlock } from '../sources/index.js'
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
import { checkPageSizes } from './page-sizes.js'
import type { StoredVm } from './stored-vm.js'
import { TrustedDirectory, type TrustOptions } from './trusted-directory.js'
import { WORKING_SET_FILE } from './working-set-file.js'

/**
 * Reads the manifest of a parked VM.
 *
 * @throws PostcopyError `ERR_PARKED_FORMAT`, `ERR_PARKED_VERSION`; `ERR_PARKED_UNTRUSTED` if other
 *   users may have written it; `ENOENT` if there is none
 */
export function readManifest(directory: string, options: TrustOptions = {}): Manifest {
  return withDirectory(directory, options, readManifestIn)
}

/** Opens the directory of a parked VM for the duration of a call. */
export function withDirectory<T>(
  directory: string,
  options: TrustOptions,
  act: (files: TrustedDirectory) => T,
): T {
  const files = openDirectory(directory, options)
  try {
    return act(files)
  } finally {
    files.close()
  }
}

function openDirectory(directory: string, options: TrustOptions): TrustedDirectory {
  try {
    return TrustedDirectory.open(directory, options)
  } catch (error) {
    if (!(error instanceof PostcopyError) || error.code === 'ERR_PARKED_UNTRUSTED') throw error
    const text = `${directory} is not a parked VM: ${error.message}`
    throw new PostcopyError(error.code, text, { cause: error })
  }
}

/** As {@link readManifest}, from a directory that is already open. */
export function readManifestIn(files: TrustedDirectory): Manifest {
  const path = join(files.path, MANIFEST_FILE)
  const checkLength = (lengthBytes: number): void => {
    if (lengthBytes <= MOST_MANIFEST_BYTES) return
    const found = `${path} has ${lengthBytes} bytes, the limit is ${MOST_MANIFEST_BYTES}`
    throw new PostcopyError('ERR_PARKED_FORMAT', found)
  }
  let text: string
  try {
    text = files.readFile(MANIFEST_FILE, checkLength).toString('utf8')
  } catch (error) {
    const code = error instanceof PostcopyError ? error.code : 'ERR_UNKNOWN'
    if (code.startsWith('ERR_PARKED_')) throw error
    const text = `${files.path} is not a parked VM: its ${MANIFEST_FILE} cannot be read (${code})`
    throw new PostcopyError(code, text, { cause: error })
  }
  return decodeManifest(text, path)
}

/** Reads a small file of a parked VM. @throws PostcopyError `ERR_PARKED_DAMAGED` */
export function readParkedFile(files: TrustedDirectory, expected: ParkedFile): Uint8Array {
  const path = join(files.path, expected.file)
  const bytes = readSized(files, expected.file, expected.lengthBytes, 'was changed after parking')
  if (sha256(bytes) !== expected.sha256) {
    throw new PostcopyError('ERR_PARKED_DAMAGED', `${path} is damaged: its checksum differs`)
  }
  return bytes
}

/**
 * The pages of a block that an incomplete VM has.
 *
 * @throws PostcopyError `ERR_PARKED_DAMAGED`
 */
export function readReceived(files: TrustedDirectory, block: ParkedBlock): PageBitmap {
  const pageCount = block.lengthBytes / TARGET_PAGE_SIZE
  if (block.receivedFile === undefined) return new PageBitmap(pageCount)
  const lengthBytes = PageBitmap.byteLength(pageCount)
  const bytes = readSized(
    files,
    block.receivedFile,
    lengthBytes,
    'does not belong to this RAM block',
  )
  const bitmap = new PageBitmap(pageCount)
  bitmap.bytes.set(bytes)
  return bitmap
}

/** Opens the file of a RAM block. @throws PostcopyError `ERR_PARKED_DAMAGED` for another length */
export function openBlockFile(
  files: TrustedDirectory,
  { name, file, lengthBytes }: ParkedBlock,
  access: 'read' | 'write',
): number {
  const fd = readable(files, file, () => files.openFile(file, access))
  const { size } = fstatSync(fd)
  if (size === lengthBytes) return fd
  closeSync(fd)
  const path = join(files.path, file)
  const text = `${path} has ${size} bytes, RAM block "${name}" has ${lengthBytes}: damaged`
  throw new PostcopyError('ERR_PARKED_DAMAGED', text)
}

export interface ParkedVmOptions extends TrustOptions {
  /** Read all of RAM and compare its checksums, too; default false. */
  verify?: boolean
  /**
   * Host page size of RAM blocks, in bytes, if that of the destination QEMU differs from the
   * manifest. A precopy does not announce it, so a VM in huge pages looks like any other.
   */
  pageSizes?: ReadonlyMap<string, number>
  /**
   * Accept an incomplete VM, too: the spill of a source, for a destination that has the other
   * pages. Default false.
   */
  forRecovery?: boolean
}

export class ParkedVm implements StoredVm {
  readonly directory: string
  readonly path: string
  readonly manifest: Manifest
  readonly record: Manifest
  readonly isWhole: boolean
  readonly workingSetFile: string
  readonly machineType: string
  readonly configuration: Uint8Array
  readonly ramSectionId: number
  readonly blocks: readonly PageSourceBlock[]
  readonly running = false
  readonly readOnly = true
  readonly #devices: Uint8Array

  /**
   * Opens a parked VM; never changes anything in its directory.
   *
   * @throws PostcopyError `ERR_PARKED_FORMAT`, `ERR_PARKED_VERSION`, `ERR_PARKED_DAMAGED`,
   *   `ERR_PARKED_INCOMPLETE`; `ERR_PARKED_UNTRUSTED` if other users may have written it
   */
  static open(directory: string, options: ParkedVmOptions = {}): ParkedVm {
    checkOptionNames(options, ['verify', 'pageSizes', 'forRecovery', 'allowForeignDirectory'])
    return withDirectory(directory, options, (files) => ParkedVm.#open(directory, files, options))
  }

  static #open(directory: string, files: TrustedDirectory, options: ParkedVmOptions): ParkedVm {
    const manifest = readManifestIn(files)
    if (manifest.state !== 'complete' && options.forRecovery !== true) {
      throw new PostcopyError(
        'ERR_PARKED_INCOMPLETE',
        `${directory} is not complete: its postcopy broke off, and only the other end has the missing pages`,
      )
    }
    return new ParkedVm(directory, files, manifest, options)
  }

  private constructor(
    directory: string,
    files: TrustedDirectory,
    manifest: Manifest,
    options: ParkedVmOptions,
  ) {
    const { verify = false, pageSizes = new Map<string, number>() } = options
    checkPageSizes(manifest.blocks, pageSizes)
    this.directory = directory
    this.path = directory
    this.manifest = manifest
    this.record = manifest
    this.isWhole = manifest.state === 'complete'
    this.workingSetFile = join(directory, WORKING_SET_FILE)
    this.machineType = manifest.machineType
    this.ramSectionId = manifest.ramSectionId
    this.configuration = readParkedFile(files, manifest.configuration)
    this.#devices = readParkedFile(files, manifest.devices)
    const blocks: PageSourceBlock[] = []
    this.blocks = blocks
    try {
      for (const block of manifest.blocks) {
        const { name, lengthBytes, pageSizeBytes } = block
        blocks.push({
          name,
          ...openBlock(files, block, verify),
          lengthBytes,
          pageSizeBytes: pageSizes.get(name) ?? pageSizeBytes,
          ...(manifest.state === 'complete' ? {} : { available: readReceived(files, block) }),
        })
      }
    } catch (error) {
      this.close()
      throw error
    }
  }

  start(): void {
    // Runs only where it is resumed.
  }

  async stop(): Promise<void> {
    await Promise.resolve()
  }

  saveDevices(): Uint8Array {
    return this.#devices
  }

  loadDevice(idstr: string): never {
    throw new PostcopyError('ERR_DEVICE_STATE', `${idstr}: a parked VM cannot load devices`)
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

  /** Closes the files. May be called twice. */
  close(): void {
    for (const { pages } of this.blocks) pages.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

function openBlock(
  files: TrustedDirectory,
  block: ParkedBlock,
  verify: boolean,
): Pick<PageSourceBlock, 'pages' | 'data'> {
  const fd = openBlockFile(files, block, 'read')
  try {
    if (verify && checksumBlock(fd, block.lengthBytes) !== block.checksum) {
      const path = join(files.path, block.file)
      const text = `${path} (RAM block "${block.name}") is damaged: its checksum differs`
      throw new PostcopyError('ERR_PARKED_DAMAGED', text)
    }
    return openSparseFile(fd, block.lengthBytes)
  } finally {
    closeSync(fd)
  }
}

/** @throws PostcopyError `ERR_PARKED_DAMAGED` for another length, before anything is read */
function readSized(
  files: TrustedDirectory,
  file: string,
  expectedBytes: number,
  otherwise: string,
): Uint8Array {
  const checkLength = (lengthBytes: number): void => {
    if (lengthBytes === expectedBytes) return
    const path = join(files.path, file)
    const text = `${path} ${otherwise} (${lengthBytes} bytes, not ${expectedBytes}): damaged`
    throw new PostcopyError('ERR_PARKED_DAMAGED', text)
  }
  const bytes = readable(files, file, () => files.readFile(file, checkLength))
  checkLength(bytes.length)
  return bytes
}

/** A file that the manifest names must exist. */
function readable<T>(files: TrustedDirectory, file: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    const code = error instanceof PostcopyError ? error.code : 'ERR_UNKNOWN'
    if (code.startsWith('ERR_PARKED_')) throw error
    const path = join(files.path, file)
    const text = `${path} cannot be read (${code}), but belongs to the parked VM`
    throw new PostcopyError('ERR_PARKED_DAMAGED', text, { cause: error })
  }
}
