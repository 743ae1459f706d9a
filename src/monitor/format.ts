/** Formats the results of queries for HMP, in QEMU's style. */
import type { VcpuStats } from '../guest/index.js'
import { printable, printableMessage } from '../printable.js'
import type { ArrivalCounts, BlockArrivals } from './page-arrivals.js'
import type { MigrationInfo, RamInfo } from './query-migrate.js'

const MAP_WIDTH = 64

/** Empty if nothing has happened, as in QEMU. */
export function formatMigration(info: MigrationInfo): string {
  if (info.status === undefined) return ''
  const latency = info['x-postcopy-latency-us']
  const pages = info['x-pages']
  const optional = (label: string, value: string | number | undefined, unit = ''): string[] =>
    value === undefined ? [] : [`${label}: ${value}${unit}`]
  return [
    `Migration status: ${info.status}`,
    ...optional('error', errorText(info['error-desc'])),
    ...optional('total time', info['total-time'], ' ms'),
    ...optional('expected downtime', info['expected-downtime'], ' ms'),
    ...optional('downtime', info.downtime, ' ms'),
    ...optional('setup', info['setup-time'], ' ms'),
    ...(info.ram === undefined ? [] : formatRam(info.ram)),
    ...(info['socket-address'] ?? []).map((address) =>
      address.type === 'unix'
        ? `socket address: unix:${address.path}`
        : `socket address: tcp:${address.host}:${address.port}`,
    ),
    ...(pages === undefined
      ? []
      : [
          `precopied pages: ${pages.precopied}`,
          `discarded pages: ${pages.discarded}`,
          `requested pages: ${pages.requested}`,
          `pushed pages: ${pages.pushed}`,
        ]),
    ...optional('postcopy faults', info['x-faults']),
    ...(latency === undefined
      ? []
      : [
          `postcopy fault latency: p50 ${latency.p50} us, p90 ${latency.p90} us, ` +
            `p99 ${latency.p99} us, max ${latency.max} us`,
        ]),
    ...optional('postcopy blocktime', info['postcopy-blocktime'], ' ms'),
    ...optional('postcopy vcpu blocktime', info['postcopy-vcpu-blocktime']?.join(', '), ' ms'),
  ].join('\n')
}

/** Keeps a peer's text from imitating lines of our own. */
function errorText(message: string | undefined): string | undefined {
  return message === undefined ? undefined : printableMessage(message)
}

function formatRam(ram: RamInfo): string[] {
  const kbytes = (bytes: number): string => `${Math.floor(bytes / 1024)} kbytes`
  return [
    `transferred ram: ${kbytes(ram.transferred)}`,
    `throughput: ${ram.mbps.toFixed(2)} mbps`,
    `remaining ram: ${kbytes(ram.remaining)}`,
    `total ram: ${kbytes(ram.total)}`,
    `duplicate: ${ram.duplicate} pages`,
    `normal: ${ram.normal} pages`,
    `normal bytes: ${kbytes(ram['normal-bytes'])}`,
    `dirty sync count: ${ram['dirty-sync-count']}`,
    `page size: ${kbytes(ram['page-size'])}`,
    `pages-per-second: ${ram['pages-per-second']}`,
    `dirty pages rate: ${ram['dirty-pages-rate']} pages`,
    `precopy ram: ${kbytes(ram['precopy-bytes'])}`,
    `downtime ram: ${kbytes(ram['downtime-bytes'])}`,
    `postcopy ram: ${kbytes(ram['postcopy-bytes'])}`,
    `postcopy request count: ${ram['postcopy-requests']}`,
  ]
}

export function formatCpus(cpus: readonly VcpuStats[]): string {
  return cpus
    .map((cpu, index) => {
      const touching =
        cpu.touching !== undefined && cpu.touching.sinceUs >= 1000
          ? `, for ${Math.round(cpu.touching.sinceUs / 1000)} ms at page ${cpu.touching.page}`
          : ''
      return (
        `CPU #${index}: thread_id=${cpu.threadId} ${cpu.activity}, ${cpu.touches} touches ` +
        `(${cpu.writes} writes), ${cpu.failedChecks} failed checks, ` +
        `blocktime ${Math.round(cpu.blocktimeUs / 1000)} ms${touching}`
      )
    })
    .join('\n')
}

export function formatArrivals(blocks: readonly BlockArrivals[]): string {
  return blocks
    .map((block) => {
      const { precopied, requested, pushed, pages } = block
      const missing = pages - precopied - requested - pushed
      const head =
        `${printable(block.block)}: ${pages} pages: ${precopied} precopied, ${requested} requested, ` +
        `${pushed} pushed, ${missing} missing; pages per character: ${block.pagesPerCell}`
      const map = block.cells.map(cellCharacter).join('')
      return [head, ...(map.match(new RegExp(`.{1,${MAP_WIDTH}}`, 'g')) ?? [])].join('\n')
    })
    .join('\n')
}

/** A cell with a requested page shows that; otherwise it shows what most of its pages are. */
function cellCharacter({ precopied, requested, pushed }: ArrivalCounts): string {
  if (requested > 0) return '!'
  if (precopied + pushed === 0) return ' '
  return precopied >= pushed ? '.' : '+'
}
