/** HMP's commands, in the order of `help`. */
import { PostcopyError } from '../errors.js'
import { formatFinding } from '../guest/index.js'
import { defaultParameters, parameterName, type ParameterValue } from '../migration/index.js'
import { parseByteSize } from '../units.js'
import { type Command, type Reply, availableCommands, findCommand, usage } from './hmp.js'
import { formatMigration } from './format.js'
import { infoCommands } from './info.js'
import type { Monitor } from './monitor.js'

const done: Reply = { data: {}, text: '' }
const MIB = 1024 * 1024

const actions: readonly Command[] = [
  {
    name: 'help',
    aliases: ['?'],
    args: [
      { name: 'COMMAND', optional: true },
      { name: 'TOPIC', optional: true },
    ],
    help: 'list the commands, or explain one',
    run: (monitor, { args }) =>
      help(
        monitor,
        args.filter((word) => word !== ''),
      ),
  },
  {
    name: 'migrate_set_capability',
    args: [{ name: 'NAME' }, { name: 'on|off' }],
    help: 'enable or disable a capability; postcopy-ram must be on at both ends before migrate',
    run: async (monitor, { args: [name = '', value = ''] }) => {
      await monitor.setCapability(name, parseSwitch(value))
      return done
    },
  },
  {
    name: 'migrate_set_parameter',
    args: [{ name: 'NAME' }, { name: 'VALUE' }],
    help: 'set a parameter, also during a migration; max-bandwidth is in MiB/s unless it has a unit (100M, 1G), 0 is no limit; tls-creds is a directory, "" is no TLS',
    run: async (monitor, { args: [name = '', value = ''] }) => {
      await monitor.setParameter(name, parseParameter(name, value))
      return done
    },
  },
  {
    name: 'migrate',
    flags: 'dr',
    args: [{ name: 'URI' }],
    help: 'migrate to tcp:HOST:PORT or unix:PATH; -d returns to the prompt at once (without it, this client waits), info migrate shows the progress; -r continues a postcopy-paused migration',
    run: async (monitor, { args: [uri = ''], flags }) => {
      if (flags.has('r')) await monitor.resumeMigration(uri)
      else monitor.migrate(uri)
      if (flags.has('d')) return done
      const later = monitor.outgoingEnd().then(() => {
        const info = monitor.queryMigrate()
        return { data: info, text: formatMigration(info) }
      })
      return { ...done, later }
    },
  },
  {
    name: 'migrate_incoming',
    args: [{ name: 'URI' }],
    help: 'listen for a source on tcp:HOST:PORT (port 0: any free one) or unix:PATH',
    run: async (monitor, { args: [uri = ''] }) => {
      const bound = await monitor.migrateIncoming(uri)
      return { data: { uri: bound }, text: `listening on ${bound}` }
    },
  },
  {
    name: 'migrate_start_postcopy',
    help: 'switch to postcopy now: the guest runs at the destination before all its pages are there',
    run: (monitor) => {
      monitor.startPostcopy()
      return done
    },
  },
  {
    name: 'migrate_cancel',
    help: 'cancel the outgoing migration, the guest stays here; not possible in postcopy',
    run: (monitor) => {
      monitor.cancel()
      return done
    },
  },
  {
    name: 'migrate_pause',
    help: 'close the connection of a migration in postcopy; both ends keep their pages',
    run: (monitor) => {
      monitor.pause()
      return done
    },
  },
  {
    name: 'migrate_recover',
    args: [{ name: 'URI' }],
    help: 'listen for the source of a paused incoming migration; then give migrate -r there',
    run: async (monitor, { args: [uri = ''] }) => {
      const bound = await monitor.migrateRecover(uri)
      return { data: { uri: bound }, text: `listening on ${bound}` }
    },
  },
  {
    name: 'stop',
    aliases: ['s'],
    help: 'stop the vCPUs',
    run: async (monitor) => {
      await monitor.stop()
      return done
    },
  },
  {
    name: 'cont',
    aliases: ['c'],
    flags: 'f',
    help: 'start the vCPUs; -f also if the guest was migrated away, or is paused, and is lost there',
    run: (monitor, { flags }) => {
      monitor.cont({ force: flags.has('f') })
      return done
    },
  },
  {
    name: 'verify',
    help: 'check every page of guest RAM for lost, stale, torn, misplaced or corrupt content; stop first',
    isAvailable: ({ machine }) => machine.verify !== undefined,
    run: async (monitor) => {
      const report = await monitor.verify()
      const verdict = report.verified ? 'good' : 'BAD'
      const text = [
        `content: ${verdict}`,
        `checked: ${report.pages} pages`,
        ...Object.entries(report.counts).map(([name, count]) => `${name}: ${count}`),
        `failed checks of vCPUs: ${report.failedChecks}`,
        ...report.findings.map(formatFinding),
      ]
      return { data: report, text: text.join('\n') }
    },
  },
  {
    name: 'quit',
    aliases: ['q'],
    flags: 'f',
    help: 'end this process; -f also if the guest still needs pages of the migration',
    run: (monitor, { flags }) => {
      monitor.quit({ force: flags.has('f') })
      return done
    },
  },
  {
    name: 'info',
    help: 'list the info commands',
    run: (monitor) => help(monitor, ['info']),
  },
]

export const commands: readonly Command[] = [...actions, ...infoCommands]

/** Names for completion at a prompt. */
export function commandNames(monitor: Monitor): string[] {
  return availableCommands(monitor, commands).map(({ name }) => name)
}

function help(monitor: Monitor, words: readonly string[]): Reply {
  const available = availableCommands(monitor, commands)
  const isOverview = words.length === 0 || words.join(' ') === 'info'
  const chosen = isOverview
    ? words.length === 0
      ? available
      : availableCommands(monitor, infoCommands)
    : [findCommand(available, words).command]
  const width = Math.max(...chosen.map((command) => usage(command).length))
  return {
    data: chosen.map((command) => ({
      name: command.name,
      usage: usage(command),
      help: command.help,
    })),
    text: chosen
      .map((command) => `${usage(command).padEnd(width)}  ${withAliases(command)}`)
      .join('\n'),
  }
}

function withAliases({ help: text, aliases = [] }: Command): string {
  return aliases.length === 0 ? text : `${text} (short: ${aliases.join(', ')})`
}

function parseSwitch(text: string): boolean {
  if (text === 'on' || text === 'off') return text === 'on'
  throw new PostcopyError('ERR_MONITOR_ARGUMENT', `"${text}" is neither on nor off`)
}

/**
 * Parses as QEMU does: bare numbers are MiB/s for `max-bandwidth`, otherwise bytes or milliseconds.
 */
function parseParameter(name: string, text: string): ParameterValue {
  const known = parameterName(name)
  if (typeof defaultParameters[known] === 'string') return text
  switch (known) {
    case 'max-bandwidth':
      return /^\d+(\.\d+)?$/.test(text) ? Math.floor(Number(text) * MIB) : parseByteSize(text)
    case 'max-postcopy-bandwidth':
    case 'x-max-package-bytes':
    case 'x-max-unread-bytes':
      return parseByteSize(text)
    default:
      if (/^\d+$/.test(text)) return Number(text)
      throw new PostcopyError('ERR_INVALID_PARAMETER', `${name}: "${text}" is not a whole number`)
  }
}
