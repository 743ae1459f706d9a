/** The subcommands of HMP's `info`. */
import { PostcopyError } from '../errors.js'
import type { ParameterValue } from '../migration/index.js'
import { formatArrivals, formatCpus, formatMigration } from './format.js'
import type { Command } from './hmp.js'

/** Size of a map on a terminal, in characters. */
const MAP_CELLS = 64 * 16
const MAX_MAP_CELLS = 65536

const units: Readonly<Record<string, string>> = {
  'max-bandwidth': ' bytes/second',
  'max-postcopy-bandwidth': ' bytes/second',
  'downtime-limit': ' ms',
  'x-postcopy-after-ms': ' ms',
  'x-max-package-bytes': ' bytes',
  'x-max-unread-bytes': ' bytes',
  'x-handshake-timeout': ' ms',
  'x-timeout': ' ms',
  'x-silence-timeout': ' ms',
  'x-recover-delay': ' ms',
  'x-recover-delay-max': ' ms',
}

export const infoCommands: readonly Command[] = [
  {
    name: 'info migrate',
    help: 'state and statistics of the migration',
    run: (monitor) => {
      const data = monitor.queryMigrate()
      return { data, text: formatMigration(data) }
    },
  },
  {
    name: 'info migrate_capabilities',
    help: 'capabilities of migrations',
    run: (monitor) => {
      const capabilities = Object.entries(monitor.queryCapabilities())
      return {
        data: capabilities.map(([capability, state]) => ({ capability, state })),
        text: capabilities.map(([name, on]) => `${name}: ${on ? 'on' : 'off'}`).join('\n'),
      }
    },
  },
  {
    name: 'info migrate_parameters',
    help: 'parameters of migrations',
    run: (monitor) => {
      const data = monitor.queryParameters()
      const lines = Object.entries(data).map(([name, value]: [string, ParameterValue]) =>
        typeof value === 'string' ? `${name}: '${value}'` : `${name}: ${value}${units[name] ?? ''}`,
      )
      return { data, text: lines.join('\n') }
    },
  },
  {
    name: 'info status',
    help: 'whether the guest runs here',
    run: (monitor) => {
      const data = monitor.queryStatus()
      const state = data.running ? 'running' : 'paused'
      const detail = data.status === state ? '' : ` (${data.status})`
      return { data, text: `VM status: ${state}${detail}` }
    },
  },
  {
    name: 'info cpus',
    help: 'work of each vCPU, and how long it waited for pages',
    isAvailable: ({ machine }) => machine.vcpuStats !== undefined,
    run: (monitor) => {
      const data = monitor.queryCpus()
      return { data, text: formatCpus(data) }
    },
  },
  {
    name: 'info page_arrivals',
    args: [{ name: 'CELLS', optional: true }],
    help: 'a map of each RAM block, by how its pages were received: . precopied, ! requested, + pushed',
    run: (monitor, { args: [text = ''] }) => {
      const cells = text === '' ? MAP_CELLS : Number(text)
      if (!Number.isInteger(cells) || cells < 0 || cells > MAX_MAP_CELLS) {
        throw new PostcopyError(
          'ERR_MONITOR_ARGUMENT',
          `"${text}" is not a number of cells from 0 to ${MAX_MAP_CELLS}`,
        )
      }
      const data = monitor.queryPageArrivals(cells)
      return { data, text: formatArrivals(data) }
    },
  },
]
