/** What is exported: a parked VM as the writers of the formats see it, checked while it is read. */
import { PostcopyError } from '../errors.js'
import { closeFd, duplicateFd, PageFileRun } from '../kernel/index.js'
import type { PageSourceBlock } from '../sources/index.js'
import { BlockChecksum, CHECKSUM_CHUNK_BYTES } from './checksum.js'
import { type ParkedVm, readParkedFile, withDirectory } from './parked-vm.js'
import { type DataChunk, readData } from './read-data.js'
import type { TrustOptions } from './trusted-directory.js'

/** A RAM block whose pages are read once. */
export interface ExportedBlock {
  readonly name: string
  readonly lengthBytes: number
  /** The chunks that are not holes, as {@link readData} yields them. */
  chunks(): AsyncIterable<DataChunk>
}

export interface ExportInputOptions extends TrustOptions {
  /** Compare the checksums of the RAM blocks. */
  readonly verify: boolean
  readonly signal?: AbortSignal | undefined
  /** Called with the bytes of RAM that were passed, after each chunk. */
  readonly onProgress: (doneBytes: number) => void
}

export class ExportInput {
  readonly machineType: string
  readonly configuration: Uint8Array
  readonly ramSectionId: number
  readonly devices: Uint8Array
  readonly description: Uint8Array | undefined
  readonly blocks: readonly ExportedBlock[]
  readonly ramBytes: number
  readonly #options: ExportInputOptions
  readonly #fds: number[] = []

  /** @throws PostcopyError `ERR_PARKED_DAMAGED`, `ERR_PARKED_UNTRUSTED`, … */
  static open(vm: ParkedVm, options: ExportInputOptions): ExportInput {
    const { description } = vm.manifest
    const text =
      description === undefined
        ? undefined
        : withDirectory(vm.directory, options, (files) => readParkedFile(files, description))
    return new ExportInput(vm, text, options)
  }

  private constructor(
    vm: ParkedVm,
    description: Uint8Array | undefined,
    options: ExportInputOptions,
  ) {
    this.machineType = vm.machineType
    this.configuration = vm.configuration
    this.ramSectionId = vm.ramSectionId
    this.devices = vm.saveDevices()
    this.description = description
    this.#options = options
    let before = 0
    const blocks: ExportedBlock[] = []
    for (const [index, block] of vm.blocks.entries()) {
      const { name, lengthBytes } = block
      const fd = this.#open(block)
      const checksum = vm.manifest.blocks[index]?.checksum
      const place = { name, fd, lengthBytes, before, checksum, directory: vm.directory }
      blocks.push({ name, lengthBytes, chunks: () => this.#chunks(place) })
      before += lengthBytes
    }
    this.blocks = blocks
    this.ramBytes = before
  }

  /**
   * Opens the file of a block once more: the VM may be closed meanwhile, and its descriptor then be
   * another file.
   *
   * @returns undefined for a block without data
   */
  #open({ pages, data }: PageSourceBlock): number | undefined {
    const run = new Float64Array(PageFileRun.stride)
    const first = data.next()
    if (first === -1 || !pages.find(first, run)) return undefined
    const fd = duplicateFd(run[PageFileRun.file] ?? -1)
    this.#fds.push(fd)
    return fd
  }

  /** @throws the reason of the signal */
  throwIfAborted(): void {
    this.#options.signal?.throwIfAborted()
  }

  async *#chunks({
    name,
    fd,
    lengthBytes,
    before,
    ...place
  }: BlockPlace): AsyncGenerator<DataChunk> {
    const { verify, onProgress } = this.#options
    const checksum = new BlockChecksum()
    for await (const chunk of fd === undefined ? [] : readData(fd, lengthBytes)) {
      this.throwIfAborted()
      if (verify) checksum.add(chunk.offset / CHECKSUM_CHUNK_BYTES, chunk.bytes)
      yield chunk
      onProgress(before + chunk.offset + chunk.bytes.length)
    }
    this.throwIfAborted()
    onProgress(before + lengthBytes)
    if (verify && checksum.digest() !== place.checksum) {
      const text = `RAM block "${name}" of ${place.directory} is damaged: its checksum differs`
      throw new PostcopyError('ERR_PARKED_DAMAGED', text)
    }
  }

  /** Call it when no block is being read. */
  close(): void {
    for (const fd of this.#fds.splice(0)) closeFd(fd)
  }
}

interface BlockPlace {
  readonly name: string
  readonly fd: number | undefined
  readonly lengthBytes: number
  /** Bytes of the blocks before it. */
  readonly before: number
  readonly checksum: string | undefined
  readonly directory: string
}
