/** `postcopy inspect`: shows what is in a saved stream or a parked VM. */
import { Command } from 'commander'
import { type PostcopyError, errorToRecord } from '../errors.js'
import {
  inspectParked,
  inspectStream,
  type ParkedReport,
  type StreamReport,
} from '../park/index.js'
import { printable, printableJson } from '../printable.js'
import { TARGET_PAGE_SIZE, formatByteSize, hex } from '../units.js'
import { statUserFile } from '../user-files.js'
import { type AgainstOptions, checkAgainst, runAgainst } from './inspect-against.js'
import { describeSaved, inspectSavedFile } from './inspect-saved.js'
import {
  type SavedFileOptions,
  addSavedOptions,
  foreignDirectoryOption,
  savedOptionsOf,
} from './options.js'
import { count, deviceLines, table, text } from './inspect-text.js'
import { output } from './output.js'
import type { RunAction } from './run-command.js'

type InspectOptions = AgainstOptions & SavedFileOptions

export function defineInspect(run: RunAction): Command {
  const command = new Command('inspect')
    .summary('show the contents of a saved stream or a parked VM')
    .description(
      'Shows a VM that QEMU or libvirt has saved (a file, or a pipe with a stream), or a parked VM ' +
        '(a directory): RAM ' +
        'blocks, pages by kind, commands, devices with their sizes, and oddities. Exits with ' +
        'status 0 if it could be read to its end. Memory use does not depend on its length.',
    )
    .argument(
      '<path>',
      'a saved file (see docs/saved-vms.md), or a directory made by postcopy park',
    )
    .argument('[qemu...]', 'with --against, after --: the command of a QEMU')
    .option(
      '--against',
      'of a parked VM: start a QEMU that waits, as the parked one was started or with the command after --; say what differs, and end it',
    )
    .option('--verify', 'of a parked VM: read all of its memory and compare the checksums')
    .addOption(foreignDirectoryOption())
    .option('--json', 'print one JSON object')
  return addSavedOptions(command).action((path: string, words: string[], options: InspectOptions) =>
    run((context) => {
      checkAgainst(words, options)
      return options.against === true
        ? runAgainst(path, words, options, context)
        : runInspect(path, options)
    }),
  )
}

async function runInspect(path: string, { json, ...options }: InspectOptions): Promise<number> {
  const isDirectory = statUserFile(path)?.isDirectory() ?? false
  if (isDirectory) {
    const report = inspectParked(path, {
      verify: options.verify === true,
      allowForeignDirectory: options.allowForeignDirectory === true,
    })
    // A block may have the name of a member of every object; fromEntries makes own properties.
    const diskBytes = Object.fromEntries(report.diskBytes)
    const object = { kind: 'parked-vm', ...report, diskBytes, error: plain(report.error) }
    print(json, object, () => parked(report))
    return report.error === undefined ? 0 : 1
  }
  const saved = await inspectSavedFile(path, savedOptionsOf(options))
  if (saved !== undefined) {
    const error = 'error' in saved ? saved.error : undefined
    print(json, { ...saved, error: plain(error) }, () => describeSaved(saved))
    return error === undefined ? 0 : 1
  }
  const report = await inspectStream(path)
  print(json, { kind: 'stream', ...report, error: plain(report.error) }, () => stream(report))
  return report.error === undefined ? 0 : 1
}

function print(json: true | undefined, object: object, inWords: () => string): void {
  if (json === true) output.json(object)
  else output.print(inWords())
}

function plain(error: PostcopyError | undefined): { code: string; message: string } | undefined {
  if (error === undefined) return undefined
  const { code, message } = errorToRecord(error)
  return { code, message }
}

function stream(report: StreamReport): string {
  const { ramSections, commands, devices, packagePings, descriptionBytes } = report
  const sections = `${ramSections.start} START, ${ramSections.part} PART, ${ramSections.end} END`
  const named = Object.entries(commands).map(([name, times]) => `${name} ${times}`)
  const pings = packagePings?.map(hex).join(', ')
  return text([
    `${report.way} stream of a ${printable(report.machineType ?? 'machine of unknown type')}, ${count(report.lengthBytes)} bytes`,
    ...report.configuration.map((subsection) => `configuration: ${printableJson(subsection)}`),
    `section ram (id ${report.ramSectionId ?? '?'}): ${sections}`,
    `commands: ${named.length === 0 ? 'none' : named.join(', ')}`,
    ...(pings === undefined ? [] : [`pings in the package: ${pings === '' ? 'none' : pings}`]),
    table(
      ['RAM block', 'length', 'page', 'pages', 'zero pages', 'discarded'],
      report.blocks.map((block) => [
        printable(block.name),
        formatByteSize(block.lengthBytes),
        formatByteSize(block.pageSizeBytes ?? TARGET_PAGE_SIZE),
        count(block.normalPages),
        count(block.zeroPages),
        formatByteSize(block.discardedBytes),
      ]),
    ),
    ...deviceLines(devices?.lengthBytes, devices?.sections),
    ...(descriptionBytes === undefined ? [] : [`description: ${count(descriptionBytes)} bytes`]),
    ...report.oddities.map((oddity) => `odd: ${oddity}`),
  ])
}

function parked(report: ParkedReport): string {
  const { manifest, diskBytes } = report
  return text([
    `a parked ${printable(manifest.machineType)} (${manifest.state}), by ${manifest.way}, ${manifest.parkedAt}`,
    table(
      ['RAM block', 'file', 'length', 'page', 'not zero', 'on disk'],
      manifest.blocks.map((block) => [
        printable(block.name),
        block.file,
        formatByteSize(block.lengthBytes),
        formatByteSize(block.pageSizeBytes),
        formatByteSize(block.dataPages * TARGET_PAGE_SIZE),
        formatByteSize(diskBytes.get(block.name) ?? 0),
      ]),
    ),
    ...deviceLines(manifest.devices.lengthBytes, report.devices),
    workingSetLine(report.workingSet),
    ...report.oddities.map((oddity) => `odd: ${oddity}`),
  ])
}

function workingSetLine(workingSet: ParkedReport['workingSet']): string {
  if (workingSet === undefined) return 'working set: none'
  const { pageCount } = workingSet
  const size = formatByteSize(pageCount * TARGET_PAGE_SIZE)
  return `working set: ${count(pageCount)} pages (${size}), pushed first by resume`
}
