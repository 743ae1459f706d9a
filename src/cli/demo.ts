/** `postcopy demo`: one migration between two processes on this host, checked page by page. */
import { Command, InvalidArgumentError } from 'commander'
import { errorToRecord } from '../errors.js'
import { checkWritable } from '../user-files.js'
import { GuestProcess, type Role } from './guest-process.js'
import { Progress } from './demo/progress.js'
import { MigrationRun, type PostcopyAfter, type RunResult } from './demo/run.js'
import { type DemoVerdict, count, judge, summaryObject, summaryTable } from './demo/summary.js'
import { type GuestOptions, addGuestOptions } from './options.js'
import { output } from './output.js'
import type { CommandRun, RunAction } from './run-command.js'
import { writeReport } from './write-report.js'

interface DemoOptions extends GuestOptions {
  postcopyAfter: PostcopyAfter
  json?: true
  report?: string
}

/** Cells of the page map of one block in a report. */
const REPORT_CELLS = 128 * 32

export function defineDemo(run: RunAction): Command {
  const command = new Command('demo')
    .summary('move a running guest between two processes here, and check every page')
    .description(
      'Starts two processes: one runs a guest, the other waits for it. Migrates the running guest ' +
        'from one to the other over TCP, shows the progress, and checks each page of guest ' +
        'memory at the end. Exits with status 0 only if every page is right.',
    )
  return addGuestOptions(command, { ram: '512M', vcpus: 2, workload: 'zipf:writes=30,rate=100000' })
    .option(
      '--postcopy-after <when>',
      'switch to postcopy after this many milliseconds of precopy; now: at once; never: plain precopy',
      parsePostcopyAfter,
      150,
    )
    .option('--json', "print one JSON object at the end, with the names of QEMU's query-migrate")
    .option(
      '--report <file>',
      'write an HTML report (FILE.html) or one picture (FILE.svg) with a page map, fault latencies and rates',
    )
    .action((options: DemoOptions) => run((context) => runDemo(options, context)))
}

function parsePostcopyAfter(text: string): PostcopyAfter {
  if (text === 'now' || text === 'never') return text
  if (!/^[1-9]\d{0,8}$/.test(text)) {
    throw new InvalidArgumentError('Give milliseconds, now or never.')
  }
  return Number(text)
}

async function runDemo(options: DemoOptions, { scope, signals }: CommandRun): Promise<number> {
  const { ram, memory, vcpus, workload, postcopyAfter, json, report } = options
  if (report !== undefined) checkWritable(report)
  const progress = new Progress()
  const both = ['--ram', ram, '--memory', memory, '--vcpus', String(vcpus)]
  // In plain precopy, too, the source waits for the destination's answer, so that the downtime is
  // exact.
  both.push('--capability', postcopyAfter === 'never' ? 'return-path' : 'postcopy-ram')
  if (options.tlsCreds !== undefined) both.push('--tls-creds', options.tlsCreds)
  if (options.tlsHostname !== undefined) both.push('--tls-hostname', options.tlsHostname)
  const incoming = ['--incoming', 'defer', '--capability', 'postcopy-blocktime']
  if (options.userModeOnly === true) incoming.push('--user-mode-only')
  const start = (role: Role, args: readonly string[]): GuestProcess => {
    const guest = new GuestProcess(role, args)
    // After a signal the guests need not end in order.
    scope.defer(() => {
      if (signals.received !== undefined) guest.kill()
      return guest.end()
    })
    return guest
  }
  const source = start('source', [...both, '--workload', workload])
  const destination = start('destination', [...both, ...incoming])
  scope.defer(() => progress.end())
  const run = new MigrationRun(source, destination, {
    vcpus,
    postcopyAfter,
    cells: report === undefined ? 0 : REPORT_CELLS,
    onSample: (sample) => {
      progress.update(sample)
    },
    onNote: (text) => {
      progress.note(text)
    },
  })
  let result: RunResult
  try {
    await Promise.all([source, destination].map((guest) => guest.command('info status')))
    progress.note(
      `a guest with ${ram} of RAM and ${vcpus} vCPUs (${workload}) runs in process ${source.pid}; ` +
        `process ${destination.pid} waits for it`,
    )
    result = await run.run()
  } catch (error) {
    if (signals.received !== undefined) return 1 // both guests were killed
    if (json === true) {
      const { code, message } = errorToRecord(error)
      output.json({
        status: 'failed',
        'error-desc': message,
        'x-error-code': code,
        verified: false,
      })
    }
    throw error
  }
  progress.end()
  return conclude(result, options)
}

async function conclude(result: RunResult, options: DemoOptions): Promise<number> {
  const verdict = judge(result)
  if (options.json === true) output.json(summaryObject(result))
  else printSummary(result, verdict, options)
  if (options.report !== undefined) {
    // Loaded only here, because drawing is a large module, and most runs do not draw.
    const { renderReport, renderPicture } = await import('./report/index.js')
    const render = /\.svg$/i.test(options.report) ? renderPicture : renderReport
    await writeReport(options.report, render(result, verdict, options))
    if (options.json !== true) output.print(`  report: ${options.report}\n`)
  }
  return verdict.verified ? 0 : 1
}

function printSummary(result: RunResult, verdict: DemoVerdict, options: DemoOptions): void {
  const faults = result.info['x-faults'] ?? 0
  const lines = [
    '',
    summaryTable(result),
    `${verdict.verified ? '✔' : '✖'} ${verdict.text}`,
    ...(verdict.verified && faults > 0
      ? [
          `  ${count(faults)} times the guest touched a page that had not been received: a page fault, ` +
            'and the page was fetched over TCP while the vCPU waited.',
        ]
      : []),
    ...(options.postcopyAfter !== 'never' && result.info['x-faults'] === undefined
      ? ['  Precopy ended before postcopy began: try --postcopy-after now, or more --ram.']
      : []),
    ...(result.info['x-user-mode-only'] === true && faults > 0
      ? [
          '  Only faults of user code were handled: run postcopy doctor to see what this user lacks.',
        ]
      : []),
  ]
  output.print(`${lines.join('\n')}\n`)
}
