/** A VM that QEMU or libvirt has saved to a file, ready to be sent; see docs/saved-vms.md. */
import { PostcopyError } from '../errors.js'
import { PageFile } from '../kernel/index.js'
import { checkOptionNames } from '../migration/index.js'
import {
  type PageSourceBlock,
  type SavedImage,
  type SavedOptions,
  openSaved,
} from '../sources/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import { sha256 } from './checksum.js'
import { checkPageSizes } from './page-sizes.js'
import type { StoredVm } from './stored-vm.js'
import type { VmRecord } from './working-set-file.js'

export interface SavedVmOptions extends SavedOptions {
  /** Host page size of RAM blocks in the destination QEMU, in bytes. A saved file does not contain it. */
  pageSizes?: ReadonlyMap<string, number>
}

export class SavedVm implements StoredVm {
  readonly path: string
  readonly machineType: string
  readonly configuration: Uint8Array
  readonly earlySections: Uint8Array
  readonly ramSectionId: number
  readonly blocks: readonly PageSourceBlock[]
  readonly running = false
  readonly readOnly = true
  readonly isWhole = true
  /** Format and content of the file. */
  readonly image: SavedImage
  readonly record: VmRecord
  readonly workingSetFile: string

  /**
   * Opens a saved VM; never changes the file. The index of a stream is kept beside it.
   *
   * @throws PostcopyError as {@link openSaved}; `ERR_INVALID_BLOCK` for a page size that does not fit
   */
  static async open(path: string, options: SavedVmOptions = {}): Promise<SavedVm> {
    checkOptionNames(options, ['offset', 'snapshot', 'index', 'memory', 'pageSizes'])
    const { pageSizes = new Map<string, number>(), ...rest } = options
    const image = await openSaved(path, rest)
    try {
      checkPageSizes(image.blocks, pageSizes)
      return new SavedVm(image, pageSizes)
    } catch (error) {
      image.close()
      throw error
    }
  }

  private constructor(image: SavedImage, pageSizes: ReadonlyMap<string, number>) {
    this.image = image
    this.path = image.path
    this.machineType = image.machineType
    this.configuration = image.configuration
    this.earlySections = image.earlySections
    this.ramSectionId = image.ramSectionId
    this.workingSetFile = `${image.place}.working-set`
    // The state of the devices differs each time that a VM is saved.
    this.record = {
      parkedAt: '',
      machineType: image.machineType,
      devices: { sha256: sha256(image.devices) },
      blocks: image.blocks.map(({ name, lengthBytes }) => ({ name, lengthBytes })),
    }
    const blocks: PageSourceBlock[] = []
    this.blocks = blocks
    try {
      for (const { name, lengthBytes, runs, data } of image.blocks) {
        const pageSizeBytes = pageSizes.get(name) ?? TARGET_PAGE_SIZE
        const pages = PageFile.open({ fds: image.fds, lengthBytes, runs, data: data.bytes })
        blocks.push({ name, lengthBytes, pageSizeBytes, pages, data })
      }
    } catch (error) {
      for (const { pages } of blocks) pages.close()
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
    return this.image.devices
  }

  loadDevice(idstr: string): never {
    throw new PostcopyError('ERR_DEVICE_STATE', `${idstr}: a saved VM cannot load devices`)
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

  /** Closes the file. May be called twice. */
  close(): void {
    for (const { pages } of this.blocks) pages.close()
    this.image.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
