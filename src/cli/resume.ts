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
import {
  addStartOptions,
  checkStartOptions,
  CloneHost,
  type StartCommandOptions,
  startHosts,
} from './resume-start.js'
import type { CommandRun, RunAction } from './run-command.js'
import { StatusLine } from './status-line.js'
import { openWorkingSet, saveWorkingSet } from './working-set.js'

interface ResumeCommandOptions
  extends TlsOptions, QmpOptions, SavedFileOptions, StartCommandOptions {
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
  const command: Command = new Command('resume')
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
      '[uri...]',
      'where QEMU waits: tcp:HOST:PORT or unix:PATH; with --start, after --: the command of a QEMU',
      (word: string, before: string[] | undefined) => {
        const isWord = command.opts<ResumeCommandOptions>().start === true
        return [...(before ?? []), isWord ? word : uriOr()(word)]
      },
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
  addStartOptions(command)
  addSavedOptions(command).addOption(cacheOption())
  return addTlsOptions(addQmpOptions(command, '; for a single URI'), 'connects')
    .addHelpText(
      'after',
      `
One command for a VM that postcopy park --qemu has parked:
  postcopy resume DIR --start
Otherwise, start QEMU with the options of the parked one, and
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
  checkStartOptions(options)
  if (options.start !== true && uris.length === 0) {
    throw new PostcopyError('ERR_USAGE', "missing required argument 'uri', or --start")
  }
  const targetCount = options.start === true ? (options.count ?? 1) : uris.length
  if (options.qmp !== undefined && targetCount > 1) {
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
  const hosts =
    options.start === true ? await startHosts(path, uris, options, { scope, status }) : undefined
  const targets = hosts ?? uris.map((uri) => ({ uri }))
  const clones = targets.map((target) => {
    const { uri } = target
    const sending = {
      uri,
      parameters,
      capabilities,
      ...(workingSet === undefined ? {} : { workingSet }),
    }
    const isRecovery = options.recover === true
    const send = (): Source => begin(vm, sending)
    const log = target instanceof CloneHost ? target : qemuLog
    const clone = new Clone(vm, { uri, begin: send, isRecovery, qemuLog: log }, status)
    if (target instanceof CloneHost) target.clone = clone
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
    clones.map(async (clone, index) => {
      const result = await clone.result
      const isJson = options.json === true
      const whole = (await hosts?.[index]?.conclude(result, isJson)) ?? result
      if (isJson) output.json(whole)
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
