/** `postcopy resume`: starts a parked VM in one or more QEMUs; its memory follows. */
import { Command, InvalidArgumentError } from 'commander'
import { PostcopyError } from '../errors.js'
import { isFinal, PUSH_NEVER } from '../migration/index.js'
import { migrationTarget, QmpServer, type BoundServer } from '../monitor/index.js'
import { sourceInfo } from '../monitor/internal.js'
import { type StoredVm, recover, resume } from '../park/index.js'
import type { Source } from '../source/index.js'
import { formatByteSize, parseByteSize } from '../units.js'
import { bindQmp } from './bind.js'
import { Clone } from './clone.js'
import { InClearWarning } from './in-clear-warning.js'
import {
  type QmpOptions,
  type SavedFileOptions,
  type TlsOptions,
  addQmpOptions,
  addSavedOptions,
  addTlsOptions,
  cacheOption,
  checked,
  foreignDirectoryOption,
  tlsParameters,
  uriOr,
} from './options.js'
import { noteIfChanged, openVm } from './open-vm.js'
import { output } from './output.js'
import { QemuLog } from './qemu-log.js'
import type { CommandRun, RunAction } from './run-command.js'
import { StatusLine } from './status-line.js'
import { openWorkingSet, saveWorkingSet } from './working-set.js'

interface ResumeCommandOptions extends TlsOptions, QmpOptions, SavedFileOptions {
  onDemand?: number | true
  bandwidth?: string
  pageSize?: ReadonlyMap<string, number>
  verify?: true
  preempt?: true
  recover?: true
  workingSet?: string | false
  qemuLog?: string
  cache?: string
  allowForeignDirectory?: true
  json?: true
}

/** Default milliseconds of quiet. */
const QUIET_MS = 1000

export function defineResume(run: RunAction): Command {
  const command = new Command('resume')
    .summary('start a parked or saved VM in QEMU at once, and send its memory while it runs')
    .description(
      'Sends a parked VM, or one that QEMU or libvirt has saved to a file, to a QEMU that waits for ' +
        'one, by postcopy from the start: the ' +
        'guest runs after milliseconds. Pages that it touches are sent first, the rest after them. ' +
        'Only the working set beside it is changed: give several URIs, or run it ' +
        'again, for as many clones as you like. That file lists the pages that were requested; ' +
        'the next resume sends them first.',
    )
    .argument(
      '<vm>',
      'a directory made by postcopy park, a saved file (see docs/saved-vms.md), or - for a stream on standard input',
    )
    .argument(
      '<uri...>',
      'where QEMU waits: tcp:HOST:PORT or unix:PATH',
      (uri: string, before: string[] | undefined) => [...(before ?? []), uriOr()(uri)],
    )
    .option(
      '--on-demand [quiet]',
      'push unrequested pages only after this many ms without a request (default 1000), or never',
      parseQuiet,
    )
    .option(
      '--bandwidth <size>',
      'limit of unrequested pages in bytes per second, as in 100M',
      checked(parseByteSize),
    )
    .option(
      '--page-size <block=size>',
      'host page size of a RAM block in the destination QEMU, as in pc.ram=2M; default: as parked',
      parsePageSize,
    )
    .option(
      '--preempt',
      'send requested pages on a second connection; QEMU needs postcopy-preempt on',
    )
    .option(
      '--recover',
      'continue a paused postcopy whose source is lost: <vm> is what it was resumed ' +
        'from, or the one that it spilled to (postcopy guest --spill)',
    )
    .option(
      '--working-set <file>',
      'file with the order in which to push pages; newly requested pages are appended; default: working-set in the directory, or FILE.working-set',
    )
    .option('--no-working-set', 'neither use nor write a working set')
    .option('--verify', 'first read all parked memory and compare the checksums')
    .option(
      '--qemu-log <file>',
      'a file with the standard error of the QEMU (2> FILE); if QEMU refuses the VM, its last lines are shown; for a single URI',
    )
    .addOption(foreignDirectoryOption())
    .option('--json', 'print one JSON object per QEMU')
  addSavedOptions(command).addOption(cacheOption())
  return addTlsOptions(addQmpOptions(command, '; for a single URI'), 'connects')
    .addHelpText(
      'after',
      `
Start QEMU with the options of the parked one, and
  -incoming defer -monitor stdio
then, in its monitor:
  migrate_set_capability postcopy-ram on
  migrate_incoming tcp:127.0.0.1:4445`,
    )
    .action((path: string, uris: string[], options: ResumeCommandOptions) =>
      run((context) => runResume(path, uris, options, context)),
    )
}

function parseQuiet(text: string): number {
  if (text === 'never') return PUSH_NEVER
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Give milliseconds, or never.')
  return Number(text)
}

function parsePageSize(
  text: string,
  before: ReadonlyMap<string, number> | undefined,
): ReadonlyMap<string, number> {
  const [, name, size] = /^(.+)=(.+)$/.exec(text) ?? []
  if (name === undefined || size === undefined) {
    throw new InvalidArgumentError('Give a RAM block and its page size, as in pc.ram=2M.')
  }
  checked(parseByteSize)(size)
  return new Map([...(before ?? []), [name, parseByteSize(size)]])
}

async function runResume(
  path: string,
  uris: readonly string[],
  options: ResumeCommandOptions,
  { scope, signals }: CommandRun,
): Promise<number> {
  if (options.qmp !== undefined && uris.length > 1) {
    throw new PostcopyError('ERR_USAGE', '--qmp works with a single URI only')
  }
  if (options.qemuLog !== undefined && uris.length > 1) {
    throw new PostcopyError('ERR_USAGE', '--qemu-log works with a single URI only')
  }
  const qemuLog = options.qemuLog === undefined ? undefined : new QemuLog(options.qemuLog)
  const { onDemand, bandwidth, verify, pageSize: pageSizes } = options
  const status = new StatusLine()
  const trust = { allowForeignDirectory: options.allowForeignDirectory === true }
  const parked = {
    ...trust,
    verify: verify === true,
    forRecovery: options.recover === true,
    ...(pageSizes === undefined ? {} : { pageSizes }),
  }
  const opening = openVm(path, parked, { ...options, signal: scope.signal }, status)
  const vm = await scope.use(opening, (opened) => opened.close())
  const parameters = {
    ...tlsParameters(options),
    'x-push-after-quiet-ms': onDemand === true ? QUIET_MS : (onDemand ?? 0),
    'max-postcopy-bandwidth': bandwidth === undefined ? 0 : parseByteSize(bandwidth),
  }
  const qmpSocket = await bindQmp(scope, options)
  const capabilities = { 'postcopy-preempt': options.preempt === true }
  const begin = options.recover === true ? recover : resume
  const workingSet = openWorkingSet(vm, options.workingSet, trust, status)
  const clones = uris.map((uri) => {
    const sending = {
      uri,
      parameters,
      capabilities,
      ...(workingSet === undefined ? {} : { workingSet }),
    }
    const isRecovery = options.recover === true
    const send = (): Source => begin(vm, sending)
    const clone = new Clone(vm, { uri, begin: send, isRecovery, qemuLog }, status)
    scope.defer(() => clone.close())
    return clone
  })
  scope.defer(() => saveWorkingSet(workingSet, status))
  signals.onFirst(() => clones.forEach((clone) => clone.finishOrCancel()))
  signals.interrupted.catch(() => clones.forEach((clone) => clone.leave()))
  const [first] = clones
  if (qmpSocket !== undefined && first?.source !== undefined) {
    const qmp = serveQmp(vm, first.source, qmpSocket)
    scope.defer(() => qmp.close('host-qmp-quit'))
    status.note(`QMP on ${qmp.uri}`)
  }
  const warning = new InClearWarning()
  for (const { source } of clones) warning.look(source)
  scope.defer(() => status.end())
  status.follow(() => progress(clones))
  const results = await Promise.all(
    clones.map(async (clone) => {
      const result = await clone.result
      if (options.json === true) output.json(result)
      return result
    }),
  )
  noteIfChanged(vm, status)
  return results.every((result) => result.status === 'completed') ? 0 : 1
}

function serveQmp(vm: StoredVm, source: Source, bound: BoundServer): QmpServer {
  const target = migrationTarget(source, {
    queryStatus: () => ({ running: false, status: 'postmigrate' }),
    queryMigrate: () => sourceInfo(source, vm.blocks),
    cancel: () => source.cancel(),
    pause: () => source.pause(),
    queryParameters: () => ({ ...source.parameters }),
    setParameters: (wanted) => source.setParameters(wanted),
    quit: () => {
      if (!isFinal(source.state)) source.cancel()
    },
  })
  return QmpServer.serve(target, bound)
}

function progress(clones: readonly Clone[]): string {
  const sum = (of: (source: Source) => number): number =>
    clones.reduce((total, { source }) => total + (source === undefined ? 0 : of(source)), 0)
  const left = sum(({ counters }) => counters.remainingPages)
  const rate = formatByteSize(sum(({ counters }) => counters.bytesPerSecond))
  return `${left} pages left, ${rate}/s, ${sum(({ counters }) => counters.requestedPages)} requested`
}
