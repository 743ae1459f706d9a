/** `postcopy resume`: starts a parked VM in one or more QEMUs, its memory following. */
import { Command, InvalidArgumentError } from 'commander'
import { PostcopyError, errorToRecord } from '../errors.js'
import { PUSH_NEVER } from '../migration/options.js'
import { isAtRest, isFinal } from '../migration/states.js'
import { QmpServer, migrationTarget } from '../monitor/qmp/index.js'
import { sourceInfo } from '../monitor/query-migrate.js'
import { ParkedVm, explainRefusal, recover, resume } from '../park/index.js'
import type { Source } from '../source/source.js'
import { formatByteSize, parseByteSize } from '../units.js'
import { InClearWarning } from './in-clear-warning.js'
import {
  type QmpOptions,
  type TlsOptions,
  addQmpOptions,
  qmpServerOptions,
  addTlsOptions,
  checked,
  foreignDirectoryOption,
  tlsParameters,
  uriOr,
} from './options.js'
import { onSignals } from './signals.js'
import { StatusLine } from './status-line.js'
import { openWorkingSet, saveWorkingSet } from './working-set.js'

interface ResumeCommandOptions extends TlsOptions, QmpOptions {
  onDemand?: number | true
  bandwidth?: string
  pageSize?: ReadonlyMap<string, number>
  verify?: true
  preempt?: true
  recover?: true
  workingSet?: string | false
  allowForeignDirectory?: true
  json?: true
}

/** Milliseconds of quiet where the user gives none. */
const QUIET_MS = 1000

export function defineResume(setStatus: (status: number) => void): Command {
  const command = new Command('resume')
    .summary('start a parked VM in a QEMU at once, its memory following')
    .description(
      'Sends a parked VM to a QEMU that waits for one, by postcopy from the first moment: the ' +
        'guest runs after milliseconds, pages that it touches come first, the rest behind them. ' +
        'The directory is never changed, but for its file working-set: give several URIs, or do it ' +
        'again, for as many clones as you like. In that file stands which pages were asked for, ' +
        'and they come first next time.',
    )
    .argument('<dir>', 'what postcopy park has made')
    .argument(
      '<uri...>',
      'where QEMU waits: tcp:HOST:PORT or unix:PATH',
      (uri: string, before: string[] | undefined) => [...(before ?? []), uriOr()(uri)],
    )
    .option(
      '--on-demand [quiet]',
      'push pages that nobody asks for only after so many ms without a request (default 1000), or never',
      parseQuiet,
    )
    .option(
      '--bandwidth <size>',
      'bytes a second of such pages, as in 100M',
      checked(parseByteSize),
    )
    .option(
      '--page-size <block=size>',
      "host page of a RAM block in the QEMU that gets it, as in pc.ram=2M; default: the parked one's",
      parsePageSize,
    )
    .option(
      '--preempt',
      'send requested pages on a second connection: QEMU has postcopy-preempt on',
    )
    .option(
      '--recover',
      'go on with a postcopy that is paused and has lost its source: <dir> is what that was resumed ' +
        'from, or what it has spilled (postcopy guest --spill)',
    )
    .option(
      '--working-set <file>',
      'the order in which pages were asked for: they are pushed in it, and new ones added; default: working-set in <dir>',
    )
    .option('--no-working-set', 'neither push pages in such an order nor keep it')
    .option('--verify', 'first read all of its memory and compare the checksums')
    .addOption(foreignDirectoryOption())
    .option('--json', 'print one JSON object a QEMU')
  return addTlsOptions(addQmpOptions(command, '; for a single URI'), 'connects')
    .addHelpText(
      'after',
      `
QEMU has to be started with the options of the one that was parked, and
  -incoming defer -monitor stdio
then, in its monitor:
  migrate_set_capability postcopy-ram on
  migrate_incoming tcp:127.0.0.1:4445`,
    )
    .action(async (directory: string, uris: string[], options: ResumeCommandOptions) => {
      setStatus(await runResume(directory, uris, options))
    })
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
  return new Map([...(before ?? []), [name, parseByteSize(size)]])
}

async function runResume(
  directory: string,
  uris: readonly string[],
  options: ResumeCommandOptions,
): Promise<number> {
  const { onDemand, bandwidth, verify, pageSize: pageSizes } = options
  const status = new StatusLine()
  const trust = { allowForeignDirectory: options.allowForeignDirectory === true }
  const vm = ParkedVm.open(directory, {
    ...trust,
    verify: verify === true,
    forRecovery: options.recover === true,
    ...(pageSizes === undefined ? {} : { pageSizes }),
  })
  const parameters = {
    ...tlsParameters(options),
    'x-push-after-quiet-ms': onDemand === true ? QUIET_MS : (onDemand ?? 0),
    'max-postcopy-bandwidth': bandwidth === undefined ? 0 : parseByteSize(bandwidth),
  }
  const capabilities = { 'postcopy-preempt': options.preempt === true }
  const begin = options.recover === true ? recover : resume
  const workingSet = openWorkingSet(vm, options.workingSet, trust, status)
  const clones = uris.map((uri) => ({
    uri,
    source: begin(vm, {
      uri,
      parameters,
      capabilities,
      ...(workingSet === undefined ? {} : { workingSet }),
    }),
  }))
  const warning = new InClearWarning()
  for (const { source } of clones) warning.look(source)
  const qmp = await serveQmp(vm, clones, options)
  if (qmp !== undefined) status.note(`QMP on ${qmp.uri}`)
  const release = onSignals(
    () => finishOrCancel(clones, status),
    () => process.exit(1),
  )
  try {
    status.follow(() => progress(clones))
    const results = await Promise.all(
      clones.map(async ({ uri, source }) => {
        const result = await follow(
          vm,
          { uri, source, isRecovery: options.recover === true },
          status,
        )
        if (options.json === true) process.stdout.write(`${JSON.stringify(result)}\n`)
        return result
      }),
    )
    return results.every((result) => result.status === 'completed') ? 0 : 1
  } finally {
    saveWorkingSet(workingSet, status)
    status.end()
    release()
    await qmp?.close('host-qmp-quit')
    for (const { source } of clones) await source.close()
    vm.close()
  }
}

/** @throws PostcopyError where there are several to be driven */
async function serveQmp(
  vm: ParkedVm,
  clones: readonly { source: Source }[],
  options: QmpOptions,
): Promise<QmpServer | undefined> {
  const [clone] = clones
  const { qmp: where } = options
  if (where === undefined || clone === undefined) return undefined
  if (clones.length > 1) throw new PostcopyError('ERR_USAGE', '--qmp drives one clone, not several')
  const { source } = clone
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
  return QmpServer.listen(target, where, qmpServerOptions(options))
}

/** Guests that run need their pages: these are sent now. Those that do not run yet never will. */
function finishOrCancel(clones: readonly { source: Source }[], status: StatusLine): void {
  for (const { source } of clones) {
    if (source.state.startsWith('postcopy-')) {
      status.note('the guest runs and needs the rest of its memory: sends it now; again: leaves it')
      source.setParameters({ 'x-push-after-quiet-ms': 0 })
    } else if (!isFinal(source.state)) source.cancel()
  }
}

interface ResumeResult {
  readonly uri: string
  readonly status: string
  /** Milliseconds from connecting to the destination's run. */
  readonly stoppedMs: number | undefined
  readonly durationMs: number
  readonly transferredBytes: number
  readonly normalPages: number
  readonly zeroPages: number
  readonly requestedPages: number
  /** Pages of the working set that were pushed. */
  readonly replayedPages: number
  readonly error?: { readonly code: string; readonly message: string }
}

async function follow(
  vm: ParkedVm,
  { uri, source, isRecovery }: { uri: string; source: Source; isRecovery: boolean },
  status: StatusLine,
): Promise<ResumeResult> {
  const { counters } = source
  let stoppedMs: number | undefined
  await new Promise<void>((resolve) => {
    source.on('state', (state) => {
      if (state === 'postcopy-active' && isRecovery) {
        status.note(`the guest at ${uri} gets the rest of its memory`)
      } else if (state === 'postcopy-active') {
        stoppedMs = counters.stoppedAt + counters.downtimeMs - counters.startedAt
        status.note(`the guest runs at ${uri}, ${stoppedMs.toFixed(1)} ms after connecting`)
      }
      if (isAtRest(state)) resolve()
    })
  })
  const { durationMs, ...numbers } = numbersOf(source)
  const result = { uri, status: source.state, stoppedMs, durationMs, ...numbers }
  if (source.state === 'completed') {
    const sent = formatByteSize(numbers.transferredBytes)
    status.note(`all of its memory is at ${uri}: ${sent} in ${durationMs.toFixed(0)} ms`)
    return result
  }
  const error = source.error
  if (error === undefined) return result
  const runs = stoppedMs !== undefined || isRecovery
  // Before anything was sent, the reason is not the VM.
  const wasRefused = !runs && counters.transferredBytes > 0
  const told = wasRefused ? explainRefusal(vm, error) : error
  const { code, message } = errorToRecord(told)
  const outcome = runs
    ? `${uri}: ${message}; the guest there waits for the rest of its memory: resume --recover goes on, ${vm.directory} is as it was`
    : `${uri}: ${message}`
  status.note(`${outcome} [${code}]`)
  return { ...result, status: runs ? source.state : 'failed', error: { code, message } }
}

function numbersOf(
  source: Source,
): Pick<
  ResumeResult,
  | 'durationMs'
  | 'transferredBytes'
  | 'normalPages'
  | 'zeroPages'
  | 'requestedPages'
  | 'replayedPages'
> {
  const { startedAt, endedAt, transferredBytes, normalPages, zeroPages } = source.counters
  const { requestedPages, replayedPages } = source.counters
  const durationMs = endedAt - startedAt
  return { durationMs, transferredBytes, normalPages, zeroPages, requestedPages, replayedPages }
}

function progress(clones: readonly { source: Source }[]): string {
  const sum = (of: (source: Source) => number): number =>
    clones.reduce((total, { source }) => total + of(source), 0)
  const left = sum(({ counters }) => counters.remainingPages)
  const rate = formatByteSize(sum(({ counters }) => counters.bytesPerSecond))
  return `${left} pages left, ${rate}/s, ${sum(({ counters }) => counters.requestedPages)} asked for`
}
