/** `postcopy park --qemu`: parks a running QEMU by its own QMP. */
import { resolve } from 'node:path'
import { InvalidArgumentError, Option, type Command } from 'commander'
import { PostcopyError } from '../errors.js'
import { parseUri } from '../net/index.js'
import type { SwitchAfter } from '../qemu/index.js'
import { sentence } from '../printable.js'
import { nextCommand } from './next-command.js'
import { output } from './output.js'
import { inWords, resultOf } from './park-result.js'
import { parkProgress } from './park-progress.js'
import type { CommandRun } from './run-command.js'
import { StatusLine } from './status-line.js'
import { utf8 } from './utf8.js'

export interface ParkQemuOptions {
  qemu?: string
  after?: SwitchAfter
  keepRunning?: true
  quit?: true
  snapshotDisks?: string | true
  launchRecord?: boolean
  to?: string
  allowForeignDirectory?: true
  json?: true
}

/** Options that another way of parking has. */
interface OtherOptions {
  from?: string
  recover?: string
  qmp?: string
  tlsCreds?: string
}

export function addParkQemuOptions(command: Command): void {
  command
    .option('--qemu <unix:path>', 'drive a running QEMU by its QMP socket; needs no URI', qmpSocket)
    .addOption(
      new Option(
        '--after <ms>',
        'with --qemu: switch to postcopy after this many milliseconds of precopy, now (default), or never',
      ).argParser(parseAfter),
    )
    .option('--keep-running', 'with --qemu: afterwards the guest continues in that QEMU')
    .option(
      '--snapshot-disks [dir]',
      'with --keep-running: first give the running guest new overlays of its disks, in <dir> or beside each disk, so that those of the parked VM stay as they are',
    )
    .option('--quit', 'with --qemu: end that QEMU when the VM is on disk')
    .option('--no-launch-record', 'with --qemu: do not record how that QEMU was started')
}

/** Rejects options that need `--qemu`. @throws PostcopyError `ERR_USAGE` */
export function checkNoQemuOptions(options: ParkQemuOptions): void {
  const given = [
    options.after === undefined ? '' : '--after',
    options.keepRunning === true ? '--keep-running' : '',
    options.snapshotDisks === undefined ? '' : '--snapshot-disks',
    options.quit === true ? '--quit' : '',
    options.launchRecord === false ? '--no-launch-record' : '',
  ].find((name) => name !== '')
  if (given !== undefined) throw new PostcopyError('ERR_USAGE', `${given} needs --qemu`)
}

export async function runParkQemu(
  uri: string | undefined,
  options: ParkQemuOptions & OtherOptions,
  { scope, signals }: CommandRun,
): Promise<number> {
  const { qemu = '', to, keepRunning = false, quit = false } = options
  if (to === undefined) {
    throw new PostcopyError('ERR_USAGE', '--to DIR is missing: the directory to make')
  }
  checkUsage(uri, options)
  const status = new StatusLine()
  scope.defer(() => status.end())
  const { RunningPark } = await import('../qemu/index.js')
  const running = await scope.use(
    RunningPark.prepare({
      qmp: socketPath(qemu),
      directory: utf8(to, '--to'),
      keepRunning,
      recordLaunch: options.launchRecord !== false,
      allowForeignDirectory: options.allowForeignDirectory === true,
      note: (text) => status.note(text),
      ...(options.after === undefined ? {} : { after: options.after }),
      ...(options.snapshotDisks === undefined
        ? {}
        : { snapshotDisks: folderOf(options.snapshotDisks) }),
    }),
    (made) => made.close(),
  )
  const { park } = running
  signals.onFirst(() => {
    if (running.cancel()) return
    status.note('QEMU still has the other pages: waiting for them; a second signal stops parking')
  })
  park.on('state', (state) => {
    if (state === 'active') status.note('receiving the VM')
    if (state === 'postcopy-active') {
      status.note('postcopy: its device state is on disk, receiving the other pages')
    }
  })
  status.follow(() => parkProgress(park.counters))
  let manifest
  try {
    manifest = await running.run()
  } catch (error) {
    if (park.state !== 'postcopy-paused') throw error
    throw withNextCommand(error, `${resolve(to)}.incomplete`, park.isKeptWhole, options)
  }
  if (quit) await running.quit()
  const result = { ...resultOf(to, manifest), qemu: after(keepRunning, quit) }
  if (options.json === true) output.json(result)
  else output.print(`${inWords(result)}${inQemu[result.qemu]}\n`)
  return 0
}

const inQemu = {
  continued: 'the guest continues in its QEMU',
  ended: 'its QEMU has ended',
  stopped:
    'its QEMU keeps the stopped guest: end it (quit), or cont there to continue without the parked VM',
}

function after(keepRunning: boolean, quit: boolean): keyof typeof inQemu {
  if (quit) return 'ended'
  return keepRunning ? 'continued' : 'stopped'
}

function checkUsage(uri: string | undefined, options: ParkQemuOptions & OtherOptions): void {
  const other = [
    uri === undefined ? '' : 'a URI',
    options.from === undefined ? '' : '--from',
    options.recover === undefined ? '' : '--recover',
    options.qmp === undefined ? '' : '--qmp',
    options.tlsCreds === undefined ? '' : '--tls-creds',
  ].find((name) => name !== '')
  if (other !== undefined) {
    throw new PostcopyError('ERR_USAGE', `--qemu cannot be combined with ${other}`)
  }
  if (options.keepRunning === true && options.quit === true) {
    throw new PostcopyError('ERR_USAGE', '--keep-running and --quit exclude each other')
  }
  if (options.snapshotDisks !== undefined && options.keepRunning !== true) {
    throw new PostcopyError('ERR_USAGE', '--snapshot-disks needs --keep-running')
  }
}

/** @param isKeptWhole - no page is missing, so QEMU is not needed any more */
function withNextCommand(
  error: unknown,
  directory: string,
  isKeptWhole: boolean,
  options: ParkQemuOptions,
): PostcopyError {
  const { code, message } = error as PostcopyError
  const where = 'tcp:127.0.0.1:4444'
  const command = nextCommand(['park', where, '--recover', directory], options)
  const there = isKeptWhole ? '' : `; then, in QEMU's monitor: migrate -r ${where}`
  const text = `${sentence(message)} To continue: ${command}${there}`
  return new PostcopyError(code, text, { cause: error })
}

function qmpSocket(text: string): string {
  try {
    socketPath(text)
    return text
  } catch (error) {
    throw new InvalidArgumentError((error as PostcopyError).message)
  }
}

/** @throws PostcopyError `ERR_INVALID_URI`, also for a path of more than 107 bytes */
function socketPath(text: string): string {
  const uri = parseUri(utf8(text, '--qemu'), 'QMP address')
  if (uri.type === 'unix') return uri.path
  throw new PostcopyError(
    'ERR_INVALID_URI',
    `"${text}": give unix:PATH; start QEMU with -qmp unix:PATH,server=on,wait=off`,
  )
}

/** @param folder - `true`: the option has no argument */
function folderOf(folder: string | true): string | true {
  return folder === true ? true : utf8(folder, '--snapshot-disks')
}

function parseAfter(text: string): SwitchAfter {
  if (text === 'now' || text === 'never') return text
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Give milliseconds, now, or never.')
  return Number(text)
}
