/**
 * Writes pages into guest memory: by plain copies before it is armed (precopy), atomically by
 * userfaultfd after that (postcopy).
 */
import { constants } from 'node:os'
import { KernelError, PeerError } from '../errors.js'
import {
  AssembleCall,
  assembleRecords,
  AssembleStop,
  Assembly,
  createHostPageAssembly,
  type HostPageAssembly,
  hugePageShortage,
  kernelError,
  LoadCall,
  loadRecords,
  PlaceCall,
  placeRecords,
  PlaceStop,
  type Userfaultfd,
} from '../kernel/index.js'
import type { ChannelName, Counters } from '../migration/index.js'
import {
  RAM_PAGE_RECORD_BYTES,
  RAM_RECORD_HEAD_BYTES,
  RAM_ZERO_RECORD_BYTES,
  RamFlag,
} from '../stream/index.js'
import { writeRamRecordHead } from '../stream/internal.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import type { DestinationBlock } from './block.js'

export class Placement {
  readonly #blocks: readonly DestinationBlock[]
  readonly #counters: Counters
  readonly #loading = new LoadCall()
  readonly #placing = new PlaceCall()
  readonly #assembling = new AssembleCall()
  /** One record built from its parts, so that every page is placed by the same code. */
  readonly #record = new Uint8Array(RAM_PAGE_RECORD_BYTES)
  /**
   * By channel, the incomplete host page of each block whose host pages are larger than target
   * pages.
   */
  readonly #assemblies: Record<ChannelName, Map<DestinationBlock, HostPageAssembly>> = {
    main: new Map(),
    preempt: new Map(),
  }
  #uffd: Userfaultfd | undefined

  constructor(blocks: readonly DestinationBlock[], counters: Counters) {
    this.#blocks = blocks
    this.#counters = counters
  }

  /**
   * Arms all RAM: from now on every touch of a missing page is a fault.
   *
   * @throws PeerError for a missing page that was not discarded, and so would never be sent;
   *   KernelError
   */
  arm(uffd: Userfaultfd): void {
    for (const { block, received, discarded, precopied } of this.#blocks) {
      const page = received.firstInNeither(discarded)
      if (page !== -1) {
        throw new PeerError(
          'ERR_PEER_DISCARD',
          `"${block.name}": the page at ${page * TARGET_PAGE_SIZE} was neither sent nor discarded; a fault on it would never end`,
        )
      }
      precopied.bytes.set(received.bytes)
    }
    for (const { block } of this.#blocks) {
      uffd.register(block.region.address, block.lengthBytes, { missing: true })
    }
    this.takeOver(uffd)
  }

  /** Places pages into RAM that an earlier worker has armed. */
  takeOver(uffd: Userfaultfd): void {
    for (const target of this.#blocks) {
      const { hostPages, hostPageSize } = target.block
      if (hostPages === 1) continue
      this.#assemblies.main.set(target, createHostPageAssembly(hostPageSize))
      this.#assemblies.preempt.set(target, createHostPageAssembly(hostPageSize))
    }
    this.#uffd = uffd
  }

  /** Disarms all RAM and wakes waiting threads. Missing pages in `zeroed` then read as zeros. */
  disarm(): void {
    for (const { block } of this.#blocks)
      this.#uffd?.unregister(block.region.address, block.lengthBytes)
    this.#uffd = undefined
  }

  /**
   * Takes complete records of one block that need no name.
   *
   * @returns bytes taken; stops before any other record
   * @throws PeerError for a page that is here already; KernelError if it cannot be placed
   */
  records(
    channel: ChannelName,
    target: DestinationBlock,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): number {
    if (this.#uffd === undefined) return this.#load(target, bytes, start, end)
    const assembly = this.#assemblies[channel].get(target)
    if (assembly !== undefined) {
      return this.#assemble(this.#uffd, target, assembly, bytes, start, end)
    }
    return this.#place(this.#uffd, target, bytes, start, end)
  }

  /** Places the page at `bytes[start]`, from a record with a name. */
  page(
    channel: ChannelName,
    target: DestinationBlock,
    offset: number,
    bytes: Uint8Array,
    start: number,
  ): void {
    this.#record.set(bytes.subarray(start, start + TARGET_PAGE_SIZE), RAM_RECORD_HEAD_BYTES)
    this.#single(channel, target, RamFlag.page, offset, RAM_PAGE_RECORD_BYTES)
  }

  zero(channel: ChannelName, target: DestinationBlock, offset: number): void {
    this.#record[RAM_RECORD_HEAD_BYTES] = 0
    this.#single(channel, target, RamFlag.zero, offset, RAM_ZERO_RECORD_BYTES)
  }

  #single(
    channel: ChannelName,
    target: DestinationBlock,
    kind: typeof RamFlag.page | typeof RamFlag.zero,
    offset: number,
    lengthBytes: number,
  ): void {
    writeRamRecordHead(this.#record, kind, offset)
    const taken = this.records(channel, target, this.#record, 0, lengthBytes)
    if (taken !== lengthBytes) this.#refuse(target, offset)
  }

  /** Resolves a fault on a received page: it is in `zeroed`, or was placed just now. */
  resolveReceived(target: DestinationBlock, page: number): void {
    const { block, zeroed } = target
    const uffd = this.#uffd
    if (uffd === undefined) return
    const address = block.region.address + page * TARGET_PAGE_SIZE
    const size = block.hostPageSize
    if (!zeroed.all(page, page + block.hostPages)) {
      uffd.wake(address, size)
      return
    }
    placeOnce(uffd, target, page * TARGET_PAGE_SIZE, () =>
      block.hostPages === 1
        ? uffd.zeropage(address, size)
        : uffd.copy(address, new Uint8Array(size)),
    )
    zeroed.clearRange(page, page + block.hostPages)
  }

  #load(target: DestinationBlock, bytes: Uint8Array, start: number, end: number): number {
    const { block, received, zeroed } = target
    const call = this.#loading
    call.usedLength = block.lengthBytes
    call.start = start
    call.end = end
    const taken = loadRecords(block.region, received.bytes, zeroed.bytes, bytes, call)
    this.#counters.normalPages += call.normalPages
    this.#counters.zeroPages += call.zeroPages
    this.#counters.precopiedPages += call.normalPages + call.zeroPages
    return taken
  }

  #place(
    uffd: Userfaultfd,
    target: DestinationBlock,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): number {
    const { block, received } = target
    const call = this.#placing
    call.usedLength = block.lengthBytes
    call.start = start
    call.end = end
    const taken = placeRecords(uffd, block.region, received.bytes, bytes, call)
    this.#counters.normalPages += call.normalPages
    this.#counters.zeroPages += call.zeroPages
    this.#counters.placeCalls += call.ioctls
    if (call.stop === PlaceStop.DUPLICATE) this.#refuse(target, call.offset)
    if (call.stop === PlaceStop.IOCTL) {
      throw kernelError(-call.errno, 'ioctl', `UFFDIO_COPY, "${block.name}" + ${call.offset}`)
    }
    return taken
  }

  #assemble(
    uffd: Userfaultfd,
    target: DestinationBlock,
    assembly: HostPageAssembly,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): number {
    const { block, received } = target
    const { staging, state } = assembly
    const call = this.#assembling
    call.usedLength = block.lengthBytes
    call.end = end
    let at = start
    for (;;) {
      call.start = at
      at += assembleRecords(assembly, received.bytes, bytes, call)
      this.#counters.normalPages += call.normalPages
      this.#counters.zeroPages += call.zeroPages
      const hostPage = state[Assembly.hostPage] ?? -1
      const seen = state[Assembly.seenPages] ?? 0
      if (call.stop !== AssembleStop.NONE) {
        this.#refuse(target, hostPage === -1 ? undefined : hostPage * block.hostPageSize)
      }
      if (hostPage === -1 || seen < block.hostPages) return at - start
      const offset = hostPage * block.hostPageSize
      placeOnce(uffd, target, offset, () => uffd.copy(block.region.address + offset, staging))
      this.#counters.placeCalls += 1
      received.setRange(hostPage * block.hostPages, (hostPage + 1) * block.hostPages)
      state[Assembly.hostPage] = -1
    }
  }

  /** @param offset - of the page, or of the incomplete host page; undefined if there is none */
  #refuse(target: DestinationBlock, offset: number | undefined): never {
    const { name, hostPageSize } = target.block
    let text = `a page of "${name}" was received again after its host page was placed; the first copy is kept`
    if (offset !== undefined) {
      text =
        hostPageSize === TARGET_PAGE_SIZE
          ? `the page at ${offset} of "${name}" was received twice in postcopy; the first copy is kept`
          : `the source sent a page twice, or a page of another host page, before the host page at ${offset} of "${name}" was complete`
    }
    throw new PeerError('ERR_PEER_PAGE', text)
  }
}

/**
 * Places one host page by `place`, which returns the number of bytes placed.
 *
 * The kernel returns EEXIST in two cases. The page is present: an earlier worker placed it and
 * ended before it recorded that. Or the page is missing, and no huge page is free for it
 * (kernel-behaviour 3.4).
 *
 * @throws KernelError; the page is then missing, and its waiters send their faults again
 */
function placeOnce(
  uffd: Userfaultfd,
  { block }: DestinationBlock,
  offset: number,
  place: () => number,
): void {
  const { name, region, hostPageSize } = block
  const what = `UFFDIO_COPY, "${name}" + ${offset}`
  try {
    const placed = place()
    // A host page is placed as a whole or not at all: 0 if a userfaultfd event is still unread.
    if (placed !== hostPageSize) throw kernelError(-constants.errno.EAGAIN, 'ioctl', what)
  } catch (error) {
    // The messages of the waiting threads were already read: wake them, so that they fault again.
    uffd.wake(region.address + offset, hostPageSize)
    if (!(error instanceof KernelError) || error.code !== 'EEXIST') throw error
    if (block.hostPages === 1 || region.mincore(offset, TARGET_PAGE_SIZE)[0] === 1) return
    throw kernelError(-constants.errno.ENOMEM, 'ioctl', what, noHugePage())
  }
}

function noHugePage(): string {
  return `${hugePageShortage()}; then recover the migration: the source still has the page`
}
