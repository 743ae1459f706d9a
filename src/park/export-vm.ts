/** Exports a parked VM to a file that QEMU or libvirt loads without this program. */
import { PostcopyError } from '../errors.js'
import { checkOptionNames, now } from '../migration/index.js'
import { RAM_PAGE_RECORD_BYTES, RAM_ZERO_RECORD_BYTES } from '../stream/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import { checkDomainXml } from './domain-xml.js'
import { ExportInput } from './export-input.js'
import { writeMappedRam } from './export-mapped-ram.js'
import { writeStream } from './export-stream.js'
import { encodeLibvirtHeader } from './libvirt-header.js'
import type { ParkedBlock, ParkedFile } from './manifest.js'
import { NewFile } from './new-file.js'
import { type ParkedVm, readParkedFile, withDirectory } from './parked-vm.js'
import { StandardOutput } from './standard-output.js'
import type { TrustOptions } from './trusted-directory.js'

const STANDARD_OUTPUT = '-'
const OPTION_NAMES = [
  'format',
  'force',
  'verify',
  'domainXml',
  'signal',
  'onProgress',
  'allowForeignDirectory',
]

export const EXPORT_FORMATS = ['stream', 'mapped-ram', 'libvirt'] as const

/**
 * - `stream`: what QEMU's `migrate "exec:cat > FILE"` writes; any QEMU loads it.
 * - `mapped-ram`: sparse, and loaded in parallel; for QEMU 9.0 and later.
 * - `libvirt`: a save image in the format raw, for `virsh restore`.
 */
export type ExportFormat = (typeof EXPORT_FORMATS)[number]

export interface ExportProgress {
  /** Length of all RAM blocks. */
  readonly ramBytes: number
  /** How much of it was passed: read and written, or a hole. */
  readonly doneBytes: number
}

export interface ExportOptions extends TrustOptions {
  /** Default `stream`. */
  format?: ExportFormat
  /** Replace a regular file that exists. Default false. */
  force?: boolean
  /**
   * Compare the checksums of RAM while it is read, and fail if one differs. Default true; false
   * exports what is there.
   */
  verify?: boolean
  /**
   * XML of the libvirt domain, which the format `libvirt` needs: text, or UTF-8. Default: the XML of
   * the image of libvirt that the VM was parked from.
   */
  domainXml?: string | Uint8Array
  /** Abort ends the export and removes the unfinished file. */
  signal?: AbortSignal
  /** Called after each MiB of data. */
  onProgress?: (progress: ExportProgress) => void
}

export interface ExportReport {
  readonly format: ExportFormat
  /** Length of the file, or bytes that were written to standard output. */
  readonly lengthBytes: number
  /** Bytes on disk, without holes; undefined for standard output. */
  readonly diskBytes: number | undefined
  readonly ramBytes: number
  /** RAM that is not zero. */
  readonly dataBytes: number
  readonly durationMs: number
}

/**
 * Exports a parked VM to a file that QEMU or `virsh restore` loads. The file appears when it is
 * complete and on disk; after a failure nothing is left of it. The parked VM is not changed, and may
 * be closed meanwhile.
 *
 * Reads and writes in Node's thread pool, with a few MiB of memory for a VM of any size.
 *
 * @param file - must not exist; `-`: standard output, for the format `stream`
 * @throws PostcopyError (by rejection) `ERR_PARKED_INCOMPLETE`, `ERR_PARKED_DAMAGED`,
 *   `ERR_FILE_EXISTS`, `ERR_FILE_KIND`, `ERR_DOMAIN_XML`, `ERR_INVALID_OPTION`; `ENOSPC` and other
 *   errno names if the file cannot be written; the reason of `signal`
 */
export async function exportVm(
  vm: ParkedVm,
  file: string,
  options: ExportOptions = {},
): Promise<ExportReport> {
  checkOptionNames(options, OPTION_NAMES)
  const startedAt = now()
  const { format = 'stream', signal } = options
  checkRequest(vm, file, format)
  const header = format === 'libvirt' ? libvirtHeaderOf(vm, options) : undefined
  signal?.throwIfAborted()
  const input = openInput(vm, options)
  try {
    const sink = openSink(file, estimateBytes(vm, format), options)
    const interrupt = (): void => {
      if (sink instanceof StandardOutput) sink.discard()
    }
    signal?.addEventListener('abort', interrupt, { once: true })
    try {
      if (header !== undefined) await sink.append(header)
      if (format === 'mapped-ram' && sink instanceof NewFile) await writeMappedRam(input, sink)
      else await writeStream(input, sink)
      await sink.finish()
    } catch (error) {
      sink.discard()
      signal?.throwIfAborted()
      throw error
    } finally {
      signal?.removeEventListener('abort', interrupt)
    }
    const { lengthBytes } = sink
    const diskBytes = sink instanceof NewFile ? sink.diskBytes : undefined
    const durationMs = now() - startedAt
    return { format, lengthBytes, diskBytes, ...ramOf(vm), durationMs }
  } finally {
    input.close()
  }
}

/** @throws PostcopyError for what cannot be exported, or not there */
function checkRequest(vm: ParkedVm, file: string, format: string): void {
  const formats: readonly string[] = EXPORT_FORMATS
  if (!formats.includes(format)) {
    const text = `no format "${format}"; there are: ${formats.join(', ')}`
    throw new PostcopyError('ERR_INVALID_OPTION', text)
  }
  if (file === STANDARD_OUTPUT && format !== 'stream') {
    const text = `the format ${format} needs a file: only a stream can go to standard output`
    throw new PostcopyError('ERR_INVALID_OPTION', text)
  }
  if (vm.manifest.state === 'complete') return
  const advice = `continue it with postcopy park URI --recover ${vm.directory}, then export the result`
  throw new PostcopyError(
    'ERR_PARKED_INCOMPLETE',
    `${vm.directory} is not complete, and only its source has the missing pages: ${advice}`,
  )
}

/**
 * With the XML that was given, or the one that the VM came with, and then with its cookie, too.
 *
 * @throws PostcopyError `ERR_DOMAIN_XML`
 */
function libvirtHeaderOf(vm: ParkedVm, options: ExportOptions): Uint8Array {
  if (options.domainXml !== undefined) return encodeLibvirtHeader(checkDomainXml(options.domainXml))
  const { domainXml, domainCookie } = vm.manifest
  const read = (file: ParkedFile): Uint8Array =>
    withDirectory(vm.directory, options, (files) => readParkedFile(files, file))
  if (domainXml !== undefined) {
    const cookie = domainCookie === undefined ? undefined : read(domainCookie)
    return encodeLibvirtHeader(checkDomainXml(read(domainXml)), cookie)
  }
  const advice = 'save it with virsh dumpxml --migratable while the VM runs, and give it with --xml'
  throw new PostcopyError('ERR_DOMAIN_XML', `the format libvirt needs the domain XML: ${advice}`)
}

function openInput(vm: ParkedVm, options: ExportOptions): ExportInput {
  const { verify = true, allowForeignDirectory = false, signal, onProgress } = options
  const ramBytes = ramOf(vm).ramBytes
  return ExportInput.open(vm, {
    verify,
    allowForeignDirectory,
    signal,
    onProgress: (doneBytes) => onProgress?.({ ramBytes, doneBytes }),
  })
}

function openSink(
  file: string,
  needBytes: number,
  { force = false }: ExportOptions,
): NewFile | StandardOutput {
  if (file === STANDARD_OUTPUT) return StandardOutput.open()
  return NewFile.create(file, { replace: force, needBytes })
}

function ramOf({ manifest }: ParkedVm): { ramBytes: number; dataBytes: number } {
  const sum = (of: (block: ParkedBlock) => number): number =>
    manifest.blocks.reduce((total, block) => total + of(block), 0)
  return {
    ramBytes: sum(({ lengthBytes }) => lengthBytes),
    dataBytes: sum(({ dataPages }) => dataPages) * TARGET_PAGE_SIZE,
  }
}

/** Bytes that the file will take on disk, about. */
function estimateBytes(vm: ParkedVm, format: ExportFormat): number {
  const { ramBytes, dataBytes } = ramOf(vm)
  const { configuration, devices, description } = vm.manifest
  const rest = [configuration, devices, ...(description === undefined ? [] : [description])]
  const restBytes = rest.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)
  if (format === 'mapped-ram') return dataBytes + restBytes
  const [pages, dataPages] = [ramBytes / TARGET_PAGE_SIZE, dataBytes / TARGET_PAGE_SIZE]
  const zeroPages = Math.max(0, pages - dataPages)
  return dataPages * RAM_PAGE_RECORD_BYTES + zeroPages * RAM_ZERO_RECORD_BYTES + restBytes
}
