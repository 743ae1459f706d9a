/** `postcopy park`: receives a VM from a QEMU and keeps it in a directory. */
import { resolve } from 'node:path'
import { Command } from 'commander'
import { PostcopyError } from '../errors.js'
import { migrationTarget, QmpServer, type QmpTarget } from '../monitor/index.js'
import { Park } from '../park/index.js'
import { sentence } from '../printable.js'
import { bindQmp } from './bind.js'
import { InClearWarning } from './in-clear-warning.js'
import { nextCommand, uriForPeer } from './next-command.js'
import {
  type QmpOptions,
  type SavedFileOptions,
  type TlsOptions,
  addQmpOptions,
  addSavedOptions,
  addTlsOptions,
  foreignDirectoryOption,
  savedOptionsOf,
  tlsParameters,
  uriOr,
} from './options.js'
import { output } from './output.js'
import {
  addParkQemuOptions,
  checkNoQemuOptions,
  type ParkQemuOptions,
  runParkQemu,
} from './park-qemu.js'
import { inWords, resultOf, settled } from './park-result.js'
import { parkProgress } from './park-progress.js'
import type { CommandRun, RunAction } from './run-command.js'
import { RefusalLog, describeRefusal, describeRefusals } from './refusal-log.js'
import { StatusLine } from './status-line.js'

interface ParkCommandOptions extends TlsOptions, QmpOptions, ParkQemuOptions, SavedFileOptions {
  to?: string
  from?: string
  recover?: string
  allowForeignDirectory?: true
  json?: true
}

export function definePark(run: RunAction): Command {
  const command = new Command('park')
    .summary('receive a running VM from QEMU and keep it in a directory')
    .description(
      'Receives one migration from a QEMU and keeps the VM on disk: a sparse file for each RAM ' +
        'block, and the state of its devices. QEMU may switch to postcopy at any moment. The ' +
        'directory appears when the whole VM is on disk; then QEMU may be ended.',
    )
    .argument('[uri]', 'where QEMU will connect: tcp:HOST:PORT or unix:PATH', uriOr())
    .option('--to <dir>', 'the directory to make; must not exist')
    .option(
      '--from <file>',
      'read a saved VM instead (see docs/saved-vms.md), or a pipe with a stream; -: standard input',
    )
    .option('--recover <dir.incomplete>', 'continue a postcopy that broke off')
    .option('--json', 'print one JSON object at the end')
    .addOption(foreignDirectoryOption())
  addParkQemuOptions(command)
  addSavedOptions(command, false)
  return addTlsOptions(addQmpOptions(command), 'listens')
    .addHelpText(
      'after',
      `
With the QMP socket of a running QEMU (-qmp unix:vm.qmp,server=on,wait=off), one command does it all:
  postcopy park --qemu unix:vm.qmp --to DIR
Otherwise, in QEMU's monitor, while this command waits:
  migrate_set_capability postcopy-ram on    (only if you want to switch)
  migrate -d tcp:127.0.0.1:4444
  migrate_start_postcopy                    (at any time, or never)
A failure after the switch leaves DIR.incomplete; then QEMU must not be ended:
  postcopy park tcp:127.0.0.1:4444 --recover DIR.incomplete
  migrate -r tcp:127.0.0.1:4444             (in QEMU's monitor)`,
    )
    .action((uri: string | undefined, options: ParkCommandOptions) =>
      run((context) =>
        options.qemu === undefined
          ? runPark(uri, options, context)
          : runParkQemu(uri, options, context),
      ),
    )
}

async function runPark(
  uri: string | undefined,
  options: ParkCommandOptions,
  { scope, signals }: CommandRun,
): Promise<number> {
  checkNoQemuOptions(options)
  const status = new StatusLine()
  scope.defer(() => status.end())
  const refusals = new RefusalLog({
    one: (error) => status.note(describeRefusal(error)),
    more: (count, last) => status.note(describeRefusals(count, last)),
  })
  // Runs after the park has closed, because it may still report rejected peers.
  scope.defer(() => refusals.flush())
  const qmpSocket = await bindQmp(scope, options)
  // Closing a park that is not finished keeps DIR.incomplete, which must not be lost.
  const { park, directory } = await scope.use(begin(uri, options), (begun) => begun.park.close())
  const states = describe(options.from)
  const end = settled(park, (state) => {
    const text = states.get(state)
    if (text !== undefined) status.note(text)
  })
  signals.onFirst(() => {
    if (!park.state.startsWith('postcopy-')) park.stop()
    else
      status.note('QEMU still has the other pages: waiting for them; a second signal stops parking')
  })
  if (qmpSocket !== undefined) {
    const qmp = QmpServer.serve(parkTarget(park), qmpSocket)
    scope.defer(() => qmp.close('host-qmp-quit'))
    status.note(`QMP on ${qmp.uri}`)
  }
  if (park.uri !== undefined) status.note(`waiting for a VM on ${park.uri}`)
  new InClearWarning().look(park)
  park.on('refused', (error) => refusals.note(error))
  status.follow(() => parkProgress(park.counters))
  await end
  const { manifest } = park
  if (manifest === undefined || park.state !== 'completed') {
    throw withNextCommand(park, uri, options)
  }
  if (options.recover !== undefined && park.uri === undefined) {
    status.note('no page was missing: QEMU is not needed any more, and may be ended')
  }
  const result = resultOf(directory, manifest)
  if (options.json === true) output.json(result)
  else output.print(inWords(result))
  return 0
}

/** Why it failed; if DIR.incomplete is left, with the commands that continue. */
function withNextCommand(
  park: Park,
  uri: string | undefined,
  options: ParkCommandOptions,
): PostcopyError {
  const { error } = park
  if (error === undefined)
    return new PostcopyError(
      'ERR_INTERNAL',
      'parking ended without a result or an error: please report this',
    )
  const isKept = park.state === 'postcopy-paused' || options.recover !== undefined
  // If there is a manifest, the whole VM is in DIR.
  if (!isKept || park.manifest !== undefined) return error
  const where = park.uri ?? uri ?? 'tcp:HOST:PORT'
  const directory = incompleteDirectory(options)
  const command = nextCommand(['park', where, '--recover', directory], options)
  const next = park.isKeptWhole
    ? `To continue: ${command}`
    : `If that QEMU is gone, the other pages are lost with it: nothing can be resumed, and ${directory} may be removed. Otherwise continue with: ${command}; then, in QEMU's monitor: migrate -r ${uriForPeer(where)}`
  return new PostcopyError(error.code, `${sentence(error.message)} ${next}`, { cause: error })
}

/** `vm.incomplete` for `vm/`, beside the directory. */
function incompleteDirectory({ to = '', recover }: ParkCommandOptions): string {
  return recover === undefined ? `${resolve(to)}.incomplete` : resolve(recover)
}

/** Begins to park from the source that the user has chosen, and returns the target directory. */
async function begin(
  uri: string | undefined,
  { to, from: file, recover, ...options }: ParkCommandOptions,
): Promise<{ park: Park; directory: string }> {
  const parameters = tlsParameters(options)
  const allowForeignDirectory = options.allowForeignDirectory === true
  if (file !== undefined && options.tlsCreds !== undefined) {
    throw new PostcopyError('ERR_USAGE', '--tls-creds is for a URI, not for a file')
  }
  if (recover !== undefined) {
    if (uri === undefined || to !== undefined || file !== undefined) {
      throw new PostcopyError(
        'ERR_USAGE',
        '--recover takes a URI to listen on, and no --to or --from',
      )
    }
    const park = await Park.recover({
      uri,
      directory: recover,
      parameters,
      allowForeignDirectory,
    })
    return { park, directory: recover.replace(/\.incomplete\/*$/, '') }
  }
  if (to === undefined)
    throw new PostcopyError('ERR_USAGE', '--to DIR is missing: the directory to make')
  if (uri !== undefined && file === undefined) {
    return {
      park: await Park.listen({ uri, directory: to, parameters, allowForeignDirectory }),
      directory: to,
    }
  }
  if (uri === undefined && file !== undefined) {
    const where = savedOptionsOf(options)
    const park = Park.fromFile({ file, ...where, directory: to, allowForeignDirectory })
    return { park, directory: to }
  }
  throw new PostcopyError('ERR_USAGE', 'give either a URI to listen on, or --from FILE')
}

/** A park for QMP, which can only query it and end it. */
function parkTarget(park: Park): QmpTarget {
  return migrationTarget(park, {
    queryStatus: () => ({ running: false, status: 'inmigrate' }),
    queryMigrate: () => ({
      status: park.state,
      ...(park.error === undefined ? {} : { 'error-desc': park.error.message }),
    }),
    quit: () => park.stop(),
  })
}

/** The messages for each state. @param file - that is read, if there is no connection */
function describe(file: string | undefined): ReadonlyMap<string, string> {
  const from = file === '-' ? 'standard input' : file
  return new Map([
    ...(from === undefined ? [] : [['setup', `waiting for a VM from ${from}`] as const]),
    ['active', 'receiving a VM'],
    ['postcopy-active', 'postcopy: its device state is on disk, receiving the other pages'],
  ])
}
