/** `postcopy guest`: one guest in this process, and a monitor to control it. */
import { Command } from 'commander'
import { PostcopyError } from '../errors.js'
import { Guest } from '../guest/index.js'
import { capabilityName } from '../migration/index.js'
import { unixUri } from '../net/index.js'
import {
  bindUnix,
  jsonLine,
  Monitor,
  type MonitorServer,
  MonitorSession,
  serveBound,
  serveStreams,
  guestTarget,
  QmpServer,
} from '../monitor/index.js'
import { type EndingGuest, lastWords } from './last-words.js'
import { InClearWarning } from './in-clear-warning.js'
import { type KeptOptions, nextCommand } from './next-command.js'
import {
  type GuestOptions,
  type QmpOptions,
  addGuestOptions,
  addQmpOptions,
  checked,
  collect,
  foreignDirectoryOption,
  tlsParameters,
  uriOr,
} from './options.js'
import { output } from './output.js'
import type { CommandRun, RunAction } from './run-command.js'
import { RefusalLog, describeRefusal, describeRefusals } from './refusal-log.js'
import { bind, bindQmp } from './bind.js'
import { Shutdown } from './shutdown.js'

interface GuestCommandOptions extends GuestOptions, QmpOptions {
  incoming?: string
  capability?: readonly string[]
  monitor: string
  spill?: string
  allowForeignDirectory?: true
  json?: true
}

export function defineGuest(run: RunAction): Command {
  const command = new Command('guest')
    .summary('run a guest, or receive one, under a monitor')
    .description(
      'Runs a guest in this process: vCPU threads that work on its RAM and check every page they ' +
        'touch. With --incoming, receives a guest from another process instead.',
    )
  addGuestOptions(command, { ram: '256M', vcpus: 1, workload: 'sweep:writes=30' })
  return addQmpOptions(command)
    .option(
      '--incoming <uri>',
      'listen for a guest on tcp:HOST:PORT or unix:PATH; defer: migrate_incoming gives the address',
      uriOr('defer'),
    )
    .option(
      '--capability <name>',
      'enable a migration capability from the start; may be repeated',
      (text: string, before?: readonly string[]) => collect(checked(capabilityName)(text), before),
    )
    .option(
      '--monitor <where>',
      'where to read commands: stdio (the process ends at end of input), unix:PATH or none',
      checked(monitorPath),
      'stdio',
    )
    .option(
      '--spill <dir>',
      'keep the pages that a postcopy owes in DIR.incomplete until the destination has them: if this process is ' +
        'lost, postcopy resume --recover continues from there',
    )
    .addOption(foreignDirectoryOption())
    .option('--json', 'events and answers as JSON, one object a line on stdout')
    .addHelpText(
      'after',
      `
A migration by hand, in two terminals:
  postcopy guest --incoming tcp:127.0.0.1:4444 --capability postcopy-ram
  postcopy guest --capability postcopy-ram
    (postcopy) migrate -d tcp:127.0.0.1:4444
    (postcopy) migrate_start_postcopy
    (postcopy) info migrate
RAM, memory and vCPUs must be the same at both ends.`,
    )
    .action((options: GuestCommandOptions) => run((context) => runGuest(options, context)))
}

/** Undefined for `stdio` and `none`. @throws PostcopyError for anything else but a unix address */
function monitorPath(text: string): string | undefined {
  if (text === 'stdio' || text === 'none') return undefined
  if (!text.startsWith('unix:')) {
    throw new PostcopyError('ERR_INVALID_MONITOR', 'give stdio, unix:PATH or none')
  }
  return unixUri(text.slice('unix:'.length), 'monitor address').path
}

async function runGuest(
  options: GuestCommandOptions,
  { scope, signals }: CommandRun,
): Promise<number> {
  const { ram, memory, vcpus, workload, incoming, json } = options
  const isIncoming = incoming !== undefined
  if (options.monitor === 'none' && options.qmp === undefined) {
    throw new PostcopyError('ERR_INVALID_MONITOR', '--monitor none needs --qmp')
  }
  const creating = Guest.create({
    ram,
    memory,
    vcpus,
    incoming: isIncoming,
    ...(isIncoming ? {} : { workload }),
  })
  const guest = await scope.use(creating, (created) => created.close())
  const monitor = new Monitor(guest, {
    incoming: isIncoming,
    ...(options.userModeOnly === undefined ? {} : { userModeOnly: true }),
    ...(options.spill === undefined ? {} : { spill: options.spill }),
    allowForeignDirectory: options.allowForeignDirectory === true,
  })
  const refusals = refusalLog((...event) => tell(...event))
  let closing: Promise<void> | undefined
  const closeMonitor = async (): Promise<void> => {
    closing ??= monitor.close()
    try {
      await closing
    } finally {
      // A monitor that is closing may still report rejected peers.
      refusals.flush()
    }
  }
  scope.defer(closeMonitor)
  let server: (MonitorServer & { refresh?(): void }) | undefined
  const tell = json === true ? tellAsJson() : tellAsText(() => server?.refresh?.())
  observe(monitor, options, tell)
  monitor.on('refused', (error) => refusals.note(error))
  for (const name of options.capability ?? []) await monitor.setCapability(name, true)
  await monitor.setParameters(tlsParameters(options))
  // Everything that can fail happens before a guest runs or arrives here.
  const path = monitorPath(options.monitor)
  const monitorSocket = path === undefined ? undefined : await bind(scope, bindUnix(path))
  const qmpSocket = await bindQmp(scope, options)
  if (isIncoming && incoming !== 'defer') await monitor.migrateIncoming(incoming)
  else if (!isIncoming) monitor.cont()
  scope.throwIfClosed()
  const shutdown = new Shutdown(monitor, signals, (text) => tell('LOG', { text }, text))
  if (qmpSocket !== undefined) {
    const qmp = QmpServer.serve(guestTarget(monitor), qmpSocket)
    scope.defer(() => qmp.close())
    tell('LOG', { text: `QMP on ${qmp.uri}` }, `QMP on ${qmp.uri}`)
  }
  const session = new MonitorSession(monitor, json === true ? 'json' : 'text')
  if (monitorSocket !== undefined) server = serveBound(session, monitorSocket)
  else if (options.monitor === 'stdio') {
    const { stream } = output.stdout
    server = serveStreams(session, process.stdin, stream, () => shutdown.inputEnded())
  }
  const close = (): void => {
    server?.close()
    server = undefined
  }
  scope.defer(close)
  await shutdown.requested
  shutdown.close()
  close()
  // Until the monitor is closed, the guest may still leave, and the spill may still be written.
  await closeMonitor()
  tell('SHUTDOWN', {}, lastWords(endingGuest(monitor, options)))
  return 0
}

/** Reports an event: its name and data, and the same as text. */
type Tell = (event: string, data: Readonly<Record<string, unknown>>, text: string) => void

function tellAsJson(): Tell {
  return (event, data) => output.stdout.write(jsonLine({ event, data }))
}

function tellAsText(refresh: () => void): Tell {
  return (_event, _data, text) => {
    output.note(text)
    if (output.stdout.isTerminal) refresh()
  }
}

function endingGuest(monitor: Monitor, options: GuestCommandOptions): EndingGuest {
  const { source, destination, spillEnd } = monitor
  const path = spillEnd !== undefined && 'path' in spillEnd ? spillEnd.path : undefined
  return {
    incoming: options.incoming !== undefined,
    source,
    destination,
    spilled: path === undefined ? undefined : { path, goOn: howToGoOn(monitor, path, options) },
  }
}

/** How to continue from a spill after this process has ended. */
function howToGoOn(
  monitor: Monitor,
  path: string,
  { allowForeignDirectory }: GuestCommandOptions,
): string {
  const command = nextCommand(['resume', '--recover', path, 'URI'], {
    ...migrationOptions(monitor),
    allowForeignDirectory,
  })
  return `migrate_recover URI at the destination and ${command} continue the migration`
}

function observe(monitor: Monitor, options: GuestCommandOptions, tell: Tell): void {
  const warning = new InClearWarning()
  monitor.on('migration', (status, error, role) => {
    if (role === 'source') warning.look(monitor.source)
    const why = error === undefined ? '' : `: ${error.message}`
    const data = { status, role, ...(error === undefined ? {} : { 'error-desc': error.message }) }
    tell('MIGRATION', data, `migration (${role}): ${status}${why}`)
  })
  monitor.on('spilled', (end) => {
    if ('isUnneeded' in end) return
    if ('error' in end) {
      const { message } = end.error
      const text = `the pages that the postcopy owes are not on disk; the migration continues: ${message}`
      tell('SPILLED', { 'error-desc': message }, text)
      return
    }
    const next = howToGoOn(monitor, end.path, options)
    const text = `the pages that the postcopy owes are on disk, in ${end.path}: if this process is lost, ${next}`
    tell('SPILLED', end, text)
  })
  monitor.on('listening', (uri) => {
    tell('LISTENING', { uri }, `waiting for a guest on ${uri}`)
    warning.look(monitor.destination)
  })
  monitor.on('running', (running) => {
    tell(running ? 'RESUME' : 'STOP', {}, running ? 'the guest runs' : 'the guest is stopped')
  })
}

/** The monitor may have changed the options of the command line. */
function migrationOptions(monitor: Monitor): KeptOptions {
  const { 'tls-creds': tlsCreds, 'tls-hostname': tlsHostname } = monitor.queryParameters()
  return {
    ...(tlsCreds === '' ? {} : { tlsCreds }),
    ...(tlsCreds === '' || tlsHostname === '' ? {} : { tlsHostname }),
    preempt: monitor.queryCapabilities()['postcopy-preempt'],
  }
}

function refusalLog(tell: Tell): RefusalLog {
  return new RefusalLog({
    one: (error) => {
      const { code, message } = error
      tell('REFUSED', { code, 'error-desc': message }, describeRefusal(error))
    },
    more: (count, last) => {
      const { code, message } = last
      tell('REFUSED', { code, 'error-desc': message, count }, describeRefusals(count, last))
    },
  })
}
