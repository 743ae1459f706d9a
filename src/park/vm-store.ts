/** Writes a VM to disk: its blocks, its devices, and their manifest. */
import { PeerError, PostcopyError } from '../errors.js'
import { type Counters, now } from '../migration/index.js'
import { checkDiscards, missingChecksum } from '../ram/index.js'
import type { LibvirtImage } from '../sources/index.js'
import type { RamBlockInfo } from '../stream/index.js'
import { TARGET_PAGE_SIZE, formatByteSize } from '../units.js'
import { BlockFile } from './block-file.js'
import { sha256 } from './checksum.js'
import { ParkDirectory } from './directory.js'
import {
  MANIFEST_FILE,
  MOST_RAM_BYTES,
  type Manifest,
  type ParkedBlock,
  type ParkedFile,
  encodeManifest,
} from './manifest.js'
import { openBlockFile, readManifestIn, readParkedFile, readReceived } from './parked-vm.js'
import type { TrustOptions } from './trusted-directory.js'

/** The description of the VM besides its pages. */
export interface VmIdentity {
  readonly machineType: string
  /** The whole element. */
  readonly configuration: Uint8Array
  readonly ramSectionId: number
}

/** What the header of libvirt's image has. */
type Domain = Pick<LibvirtImage, 'xml' | 'cookie'>

export class VmStore {
  readonly #directory: ParkDirectory
  readonly #counters: Counters
  #identity: VmIdentity | undefined
  #blocks: readonly BlockFile[] = []
  #pageCount = 0
  #discardedPages = 0
  #byName: ReadonlyMap<string, BlockFile> = new Map()
  #devices: { readonly sections: Uint8Array; readonly way: Manifest['way'] } | undefined
  #description: string | undefined
  #domain: Domain | undefined
  #devicesCommitted = false
  /** Everything is on disk, but the last rename has failed. */
  #isWhole = false

  private constructor(directory: ParkDirectory, counters: Counters) {
    this.#directory = directory
    this.#counters = counters
  }

  /** @throws PostcopyError as {@link ParkDirectory.create} */
  static create(target: string, counters: Counters, options: TrustOptions = {}): VmStore {
    return new VmStore(ParkDirectory.create(target, options), counters)
  }

  /** Fills a `DIR.partial` that was created for this store. */
  static fill(directory: ParkDirectory, counters: Counters): VmStore {
    return new VmStore(directory, counters)
  }

  /**
   * Continues with what a broken postcopy has left.
   *
   * @param path - `DIR.incomplete`
   * @throws PostcopyError `ERR_PARKED_EXISTS`, `ERR_PARKED_FORMAT`, `ERR_PARKED_DAMAGED`,
   *   `ERR_PARKED_UNTRUSTED`
   */
  static reopen(path: string, counters: Counters, options: TrustOptions = {}): VmStore {
    const store = new VmStore(ParkDirectory.reopen(path, options), counters)
    try {
      store.#read()
    } catch (error) {
      store.#close()
      throw error
    }
    return store
  }

  #read(): void {
    const { files: directory } = this.#directory
    const manifest = readManifestIn(directory)
    if (manifest.state !== 'incomplete') {
      throw new PostcopyError('ERR_PARKED_FORMAT', `${this.path} is complete: rename it`)
    }
    const { machineType, ramSectionId, way } = manifest
    const configuration = readParkedFile(directory, manifest.configuration)
    this.#identity = { machineType, ramSectionId, configuration }
    this.#devices = { sections: readParkedFile(directory, manifest.devices), way }
    this.#devicesCommitted = true
    const files: BlockFile[] = []
    this.#blocks = files
    for (const block of manifest.blocks) {
      const received = readReceived(directory, block)
      files.push(BlockFile.reopen(openBlockFile(directory, block, 'write'), block, received))
    }
    this.#byName = new Map(files.map((block) => [block.name, block]))
  }

  /** What decoding a recovered stream requires: the section id of RAM and the blocks. */
  get resumed(): { ramSectionId: number; blocks: RamBlockInfo[] } {
    const blocks = this.#blocks.map(({ name, lengthBytes }) => ({
      name,
      usedLengthBytes: lengthBytes,
    }))
    return { ramSectionId: this.#identity?.ramSectionId ?? 0, blocks }
  }

  /** Its current path. */
  get path(): string {
    return this.#directory.path
  }

  /** The devices are on disk, and the source may rely on that: its pages must not be lost. */
  get devicesCommitted(): boolean {
    return this.#devicesCommitted
  }

  /**
   * Creates the files of all RAM blocks.
   *
   * @param pageSizeOf - host page of a block, in bytes
   * @throws PeerError if RAM exceeds {@link MOST_RAM_BYTES}
   */
  begin(
    identity: VmIdentity,
    blocks: readonly RamBlockInfo[],
    pageSizeOf: (block: RamBlockInfo) => number,
  ): void {
    const ramBytes = blocks.reduce((sum, { usedLengthBytes }) => sum + usedLengthBytes, 0)
    if (ramBytes > MOST_RAM_BYTES) {
      const most = formatByteSize(MOST_RAM_BYTES)
      throw new PeerError('ERR_PEER_BLOCK', `${formatByteSize(ramBytes)} of RAM: at most ${most}`)
    }
    this.#identity = identity
    this.#pageCount = ramBytes / TARGET_PAGE_SIZE
    const files: BlockFile[] = []
    this.#blocks = files
    for (const [index, block] of blocks.entries()) {
      const file = `ram-${index}`
      const { name, usedLengthBytes: lengthBytes } = block
      const fd = this.#directory.files.createFile(file)
      files.push(
        BlockFile.create(fd, { name, file, lengthBytes, pageSizeBytes: pageSizeOf(block) }),
      )
    }
    this.#byName = new Map(files.map((block) => [block.name, block]))
  }

  block(name: string): BlockFile {
    const block = this.#byName.get(name)
    if (block === undefined) throw new PeerError('ERR_PEER_BLOCK', `no RAM block "${name}"`)
    return block
  }

  records(name: string, bytes: Uint8Array, start: number, end: number): number {
    const { taken, normal, zero } = this.block(name).records(bytes, start, end)
    this.#counters.normalPages += normal
    this.#counters.zeroPages += zero
    return taken
  }

  page(name: string, offset: number, bytes: Uint8Array, start: number): void {
    this.block(name).page(offset, bytes, start)
    this.#counters.normalPages += 1
  }

  zero(name: string, offset: number): void {
    this.block(name).zero(offset)
    this.#counters.zeroPages += 1
  }

  discard(name: string, ranges: Float64Array): void {
    const block = this.block(name)
    for (let at = 0; at < ranges.length; at += 2) {
      const lengthBytes = ranges[at + 1] ?? 0
      this.#discardedPages += lengthBytes / TARGET_PAGE_SIZE
      this.#counters.discardedPages = this.#discardedPages
      checkDiscards(this.#discardedPages, this.#pageCount)
      block.discard(ranges[at] ?? 0, lengthBytes)
    }
  }

  /** Keeps the devices for {@link complete}. */
  takeDevices(sections: Uint8Array, way: Manifest['way']): void {
    this.#devices = { sections, way }
  }

  /** Keeps the domain XML and the cookie of libvirt's image. */
  takeDomain({ xml, cookie }: Domain): void {
    this.#domain = { xml, cookie }
  }

  takeDescription(json: string): void {
    this.#description = json
  }

  /**
   * Syncs everything but the pages to disk, as `DIR.incomplete`. Then the source may rely on it.
   */
  commitDevices(): void {
    this.#writeIncomplete(false)
    this.#directory.keepIncomplete()
    this.#devicesCommitted = true
  }

  /**
   * Call at the end of a postcopy: the missing pages are zero if they are those that the source has
   * left out.
   *
   * @param leftOut - the value of the source's last ping, see {@link missingChecksum}
   */
  takeLeftOut(leftOut: number): void {
    const missing = this.#blocks.map(({ received }) => received.complement())
    if (missingChecksum(missing) !== leftOut) return
    for (const block of this.#blocks) block.takeLeftOut()
  }

  /** Whether every page was received, so that the source owes nothing. */
  get hasAllPages(): boolean {
    return this.#blocks.every(({ received, pageCount }) => received.all(0, pageCount))
  }

  /**
   * Syncs everything to disk and renames it to DIR.
   *
   * @throws PeerError `ERR_PEER_INCOMPLETE` if the source still owes pages
   */
  complete(): Manifest {
    const owing = this.#blocks.find(({ hasAllDiscarded }) => !hasAllDiscarded)
    if (owing !== undefined) {
      throw new PeerError(
        'ERR_PEER_INCOMPLETE',
        `the source ended the migration, but has not sent all pages of "${owing.name}" that it discarded`,
      )
    }
    for (const block of this.#blocks) block.sync()
    const manifest = this.#writeManifest('complete', (block) => ({ checksum: block.checksum() }))
    for (const block of this.#blocks) this.#directory.files.remove(receivedFileOf(block))
    this.#publish()
    this.#close()
    return manifest
  }

  #publish(): void {
    try {
      this.#directory.publish()
    } catch (error) {
      this.#isWhole = true
      const { code, message } =
        error instanceof PostcopyError ? error : new PostcopyError('ERR_UNKNOWN', String(error))
      throw new PostcopyError(
        code,
        `${message}; the whole VM is in ${this.path}: rename it, unless it runs at its source`,
        { cause: error },
      )
    }
  }

  /** Keeps the received pages, and a list of them; only after {@link commitDevices}. */
  leaveIncomplete(): void {
    for (const block of this.#blocks) block.sync()
    this.#writeIncomplete(true)
    this.#close()
  }

  /** Removes everything, unless the whole VM is on disk. */
  remove(): void {
    if (!this.#isWhole) this.#directory.remove()
    this.#close()
  }

  #writeIncomplete(withReceived: boolean): void {
    this.#writeManifest('incomplete', (block) => {
      if (!withReceived) return {}
      const receivedFile = receivedFileOf(block)
      this.#directory.files.replaceFile(receivedFile, Uint8Array.from(block.received.bytes))
      return { receivedFile }
    })
  }

  #writeManifest(
    state: Manifest['state'],
    extra: (block: BlockFile) => Partial<ParkedBlock>,
  ): Manifest {
    const identity = this.#identity
    const devices = this.#devices
    if (identity === undefined || devices === undefined) {
      throw new PeerError('ERR_PEER_INCOMPLETE', 'the source sent no device state')
    }
    const counters = this.#counters
    const description = this.#description
    const manifest: Manifest = {
      state,
      parkedAt: new Date().toISOString(),
      machineType: identity.machineType,
      ramSectionId: identity.ramSectionId,
      way: devices.way,
      checksumAlgorithm: 'crc32c-pages',
      configuration: this.#writeFile('configuration', identity.configuration),
      devices: this.#writeFile('devices', devices.sections),
      ...(description === undefined
        ? {}
        : { description: this.#writeFile('description.json', Buffer.from(description)) }),
      ...this.#writeDomain(),
      blocks: this.#blocks.map((block) => ({
        name: block.name,
        file: block.file,
        lengthBytes: block.lengthBytes,
        pageSizeBytes: block.pageSizeBytes,
        dataPages: block.dataPages,
        ...extra(block),
      })),
      statistics: {
        transferredBytes: counters.transferredBytes,
        normalPages: counters.normalPages,
        zeroPages: counters.zeroPages,
        discardedPages: counters.discardedPages,
        durationMs: Math.round(now() - counters.startedAt),
        unsentPages: this.#blocks.reduce(
          (sum, { pageCount, received }) => sum + pageCount - received.count(),
          0,
        ),
      },
    }
    this.#directory.files.replaceFile(MANIFEST_FILE, encodeManifest(manifest))
    return manifest
  }

  #writeDomain(): Pick<Manifest, 'domainXml' | 'domainCookie'> {
    if (this.#domain === undefined) return {}
    const { xml, cookie } = this.#domain
    return {
      domainXml: this.#writeFile('domain.xml', Buffer.from(xml)),
      ...(cookie === undefined
        ? {}
        : { domainCookie: this.#writeFile('cookie.xml', Buffer.from(cookie)) }),
    }
  }

  #writeFile(file: string, bytes: Uint8Array): ParkedFile {
    this.#directory.files.replaceFile(file, bytes)
    return { file, lengthBytes: bytes.length, sha256: sha256(bytes) }
  }

  #close(): void {
    for (const block of this.#blocks) block.close()
    this.#blocks = []
    this.#byName = new Map()
    this.#directory.close()
  }
}

function receivedFileOf(block: BlockFile): string {
  return `received-${block.file.replace('ram-', '')}`
}
