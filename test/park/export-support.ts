/** Parked VMs to export. */
import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Park, ParkedVm, type ParkedVmOptions } from '../../src/park/index.js'
import {
  type ConfigurationSubsection,
  encode,
  encodeConfiguration,
  encodeEndOfStream,
  encodeFileHeader,
  encodeFooter,
  encodeRamBlockList,
  encodeRamEndOfSection,
  encodeRamPage,
  encodeSectionEnd,
  encodeSectionFull,
  encodeSectionStart,
} from '../../src/stream/index.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'

export const PAGE = 4096
export const MIB = 2 ** 20

/** RAM by block: its length, and the pages that are not zero. */
export type Sparse = Readonly<Record<string, { lengthBytes: number; pages: readonly number[] }>>

/** Pages at the edges of words, chunks, and the window of a bitmap; a block shorter than a word. */
export const edges: Sparse = {
  'pc.ram': { lengthBytes: 130 * MIB, pages: [0, 63, 64, 65, 255, 256, 32767, 32768, 33279] },
  empty: { lengthBytes: 3 * MIB, pages: [] },
  'r\u00e9st': { lengthBytes: 3 * PAGE, pages: [1] },
}

/** Content of a page, which differs from that of every other page. */
export function contentOf(page: number): Uint8Array {
  const content = new Uint8Array(PAGE)
  new DataView(content.buffer).setUint32(PAGE - 4, page + 1)
  return content
}

/** A stream with these pages and without a description. */
export function sparseStream(
  ram: Sparse,
  subsections: readonly ConfigurationSubsection[] = [],
): Uint8Array {
  return encode((out) => {
    encodeFileHeader(out)
    encodeConfiguration(out, 'pc-i440fx-7.2', subsections)
    encodeSectionStart(out, { id: 2, idstr: 'ram', instanceId: 0, version: 4 })
    const blocks = Object.entries(ram)
    encodeRamBlockList(
      out,
      blocks.map(([name, { lengthBytes }]) => ({ name, usedLengthBytes: lengthBytes })),
    )
    encodeRamEndOfSection(out)
    encodeFooter(out, 2)
    encodeSectionEnd(out, 2)
    for (const [name, { pages }] of blocks) {
      for (const page of pages) encodeRamPage(out, name, page * PAGE, contentOf(page))
    }
    encodeRamEndOfSection(out)
    encodeFooter(out, 2)
    encodeSectionFull(out, { id: 3, idstr: 'timer', instanceId: 0, version: 2 })
    out.bytes(new Uint8Array(20))
    encodeFooter(out, 3)
    encodeEndOfStream(out)
  })
}

export interface ExportedFrom {
  readonly vm: ParkedVm
  /** For what the test writes; empty but for a copy of the VM. */
  readonly folder: string
  readonly directory: string
}

export interface SharedVm {
  /** The parked VM, which a test must not change, and a folder of the test's own. */
  open(): Promise<ExportedFrom>
  /** A copy of the parked VM. */
  copy(options?: ParkedVmOptions): Promise<ExportedFrom>
}

/** Parks a stream once, for the tests of a suite. */
export function sharedVm(bytes: Uint8Array): SharedVm {
  let shared = ''
  const directory = (): string => join(shared, 'vm')
  before(async () => {
    shared = mkdtempSync(join(tmpdir(), 'postcopy-test-'))
    const file = join(shared, 'saved')
    writeFileSync(file, bytes)
    const park = Park.fromFile({ file, directory: directory() })
    await park.done
    await park.close()
  })
  after(() => rmSync(shared, { recursive: true }))
  return {
    open: async () => {
      const folder = await temporaryFolder()
      return { folder, directory: directory(), vm: openVm(directory()) }
    },
    copy: async (options) => {
      const folder = await temporaryFolder()
      const copied = join(folder, 'vm')
      cpSync(directory(), copied, { recursive: true })
      return { folder, directory: copied, vm: openVm(copied, options) }
    },
  }
}

export function openVm(directory: string, options: ParkedVmOptions = {}): ParkedVm {
  const vm = ParkedVm.open(directory, options)
  cleanups.add(() => vm.close())
  return vm
}

/** Names of what an export has left in a folder. */
export function leftIn(folder: string): string[] {
  return readdirSync(folder).filter((name) => name !== 'vm')
}

export function fileIn(folder: string): string {
  return join(folder, 'exported')
}
