/** `postcopy export`: writes a parked VM to a file that QEMU or libvirt loads by itself. */
import { constants } from 'node:os'
import { Command, Option } from 'commander'
import { errorToRecord, PostcopyError } from '../errors.js'
import {
  EXPORT_FORMATS,
  type ExportFormat,
  type ExportProgress,
  type ExportReport,
  exportVm,
  ParkedVm,
} from '../park/index.js'
import { formatByteSize } from '../units.js'
import { readUserFile } from '../user-files.js'
import { foreignDirectoryOption } from './options.js'
import { output } from './output.js'
import type { CommandRun, RunAction } from './run-command.js'
import { StatusLine } from './status-line.js'

interface ExportCommandOptions {
  format: ExportFormat
  xml?: string
  force?: true
  verify: boolean
  allowForeignDirectory?: true
  json?: true
}

const STANDARD_OUTPUT = '-'
/** libvirt's own have a few KiB. */
const MOST_XML_BYTES = 2 ** 20

export function defineExport(run: RunAction): Command {
  return new Command('export')
    .summary('write a parked VM to a file that QEMU or libvirt loads')
    .description(
      'Writes a parked VM to a file that QEMU or virsh restore loads without postcopy. The file ' +
        'appears when it is complete and on disk. The parked VM is not changed.',
    )
    .argument('<dir>', 'a directory made by postcopy park')
    .argument('<file>', 'the file to make; must not exist; -: standard output, for a stream')
    .addOption(
      new Option(
        '--format <format>',
        'stream: loaded by any QEMU; mapped-ram: sparse, for QEMU 9.0 and later; libvirt: for ' +
          'virsh restore',
      )
        .choices(EXPORT_FORMATS)
        .default('stream'),
    )
    .option(
      '--xml <file>',
      'the domain XML, for the format libvirt (virsh dumpxml --migratable); default: that of the image of libvirt that the VM was parked from',
    )
    .option('--force', 'replace the file if it exists')
    .option('--no-verify', 'do not compare the checksums of the memory')
    .addOption(foreignDirectoryOption())
    .option('--json', 'print one JSON object at the end')
    .addHelpText(
      'after',
      `
To load the file, give QEMU the options of the parked one, and
  -incoming "exec:cat FILE"                  (stream)
  -incoming defer, then in its monitor:      (mapped-ram)
    migrate_set_capability mapped-ram on
    migrate_incoming file:FILE
or let libvirt start it: virsh restore FILE  (libvirt)`,
    )
    .action((directory: string, file: string, options: ExportCommandOptions) =>
      run((context) => runExport(directory, file, options, context)),
    )
}

async function runExport(
  directory: string,
  file: string,
  options: ExportCommandOptions,
  { scope }: CommandRun,
): Promise<number> {
  const { format, force, verify } = options
  if (options.json === true && file === STANDARD_OUTPUT) {
    throw new PostcopyError('ERR_USAGE', '--json needs a file: the stream is on standard output')
  }
  if (options.xml !== undefined && format !== 'libvirt') {
    throw new PostcopyError('ERR_USAGE', '--xml is for the format libvirt')
  }
  const domainXml =
    options.xml === undefined ? undefined : await readUserFile(options.xml, MOST_XML_BYTES)
  const allowForeignDirectory = options.allowForeignDirectory === true
  // An incomplete VM is refused by the export, whose error names the command that continues it.
  const vm = ParkedVm.open(directory, { allowForeignDirectory, forRecovery: true })
  scope.defer(() => vm.close())
  const status = new StatusLine()
  scope.defer(() => status.end())
  let progress: ExportProgress = { ramBytes: 0, doneBytes: 0 }
  const exporting = exportVm(vm, file, {
    format,
    verify,
    force: force === true,
    allowForeignDirectory,
    ...(domainXml === undefined ? {} : { domainXml }),
    signal: scope.signal,
    onProgress: (now) => (progress = now),
  })
  // After a signal, the command ends when the unfinished file is removed.
  scope.defer(() => exporting.catch(() => undefined))
  status.follow(() => inProgress(progress))
  let report
  try {
    report = await exporting
  } catch (error) {
    // As every command ends whose output is not wanted any more.
    if (errorToRecord(error).code === 'EPIPE') return 128 + constants.signals.SIGPIPE
    throw error
  }
  if (options.json === true) output.json({ directory, file, ...report })
  else if (file === STANDARD_OUTPUT) status.note(inWords('standard output', report))
  else output.print(`${inWords(file, report)}\n`)
  return 0
}

function inProgress({ ramBytes, doneBytes }: ExportProgress): string {
  if (ramBytes === 0) return ''
  return doneBytes === ramBytes
    ? 'waiting until the file is on disk'
    : `${formatByteSize(doneBytes)} of ${formatByteSize(ramBytes)}`
}

function inWords(where: string, report: ExportReport): string {
  const { format, lengthBytes, diskBytes, ramBytes, dataBytes, durationMs } = report
  const size = formatByteSize(lengthBytes)
  const onDisk = diskBytes === undefined ? '' : ` (${formatByteSize(diskBytes)} on disk)`
  const ram = `${formatByteSize(ramBytes)} of RAM, ${formatByteSize(dataBytes)} of it not zero`
  return `exported to ${where}, format ${format}: ${size}${onDisk} for ${ram}, in ${(durationMs / 1000).toFixed(2)} s`
}
