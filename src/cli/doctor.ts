/** `postcopy doctor`: what this host supports, and how to enable the rest. */
import { Command } from 'commander'
import Table from 'cli-table3'
import { type HostFact, type HostReport, probeHost } from '../kernel/index.js'
import { output } from './output.js'
import type { RunAction } from './run-command.js'

const marks: Readonly<Record<HostFact['status'], string>> = {
  ok: '✔ ok',
  limited: '! limited',
  missing: '✖ missing',
}

export function defineDoctor(run: RunAction): Command {
  return new Command('doctor')
    .summary('show what this host supports for post-copy, and how to enable the rest')
    .description(
      'Asks the running kernel what this user may do: features, rights, settings, limits. Changes ' +
        'nothing. Ends with status 0 if a migration with postcopy is possible in some way.',
    )
    .option('--json', 'print one JSON object')
    .action(({ json }: { json?: true }) =>
      run(() => {
        const report = probeHost()
        if (json === true) output.json(toJson(report))
        else output.print(toText(report))
        return verdictOf(report) === 'missing' ? 1 : 0
      }),
    )
}

/** userfaultfd decides: without it there is no postcopy, whatever else is supported. */
function verdictOf({ facts }: HostReport): HostFact['status'] {
  return facts.find(({ id }) => id === 'userfaultfd')?.status ?? 'missing'
}

function toJson(report: HostReport): Record<string, unknown> {
  return {
    possible: verdictOf(report) !== 'missing',
    status: verdictOf(report),
    kernel: report.kernelRelease,
    uid: report.privileges.uid,
    features: [...report.features],
    facts: report.facts,
  }
}

const verdicts: Readonly<Record<HostFact['status'], string>> = {
  ok: 'Postcopy works here, with every kind of page fault.',
  limited:
    'Postcopy works here for faults of user code only: postcopy demo detects this and runs.\n' +
    'To handle those of the kernel too: ',
  missing: 'Postcopy does not work here: this user may not handle page faults.\nTo change that: ',
}

function toText(report: HostReport): string {
  const { uid } = report.privileges
  const table = new Table({
    head: ['', 'what', 'found', 'enables'],
    style: { head: [], border: [], compact: true },
    colWidths: columnWidths(),
    wordWrap: true,
  })
  for (const { status, title, found, enables } of report.facts) {
    table.push([marks[status], title, found, enables])
  }
  const fixes = report.facts
    .filter(({ remedy }) => remedy !== undefined)
    .map(({ title, remedy }) => `  ${title}: ${remedy ?? ''}`)
  const status = verdictOf(report)
  const remedy = report.facts.find(({ id }) => id === 'userfaultfd')?.remedy ?? ''
  return [
    `Linux ${report.kernelRelease}, ${uid === 0 ? 'root' : `user ${uid}`}, Node ${process.versions.node}`,
    table.toString(),
    ...(fixes.length === 0 ? [] : ['How to turn on what is missing or limited:', ...fixes]),
    '',
    `${marks[status].slice(0, 1)} ${verdicts[status]}${remedy}`,
    '',
  ].join('\n')
}

/** Divides the terminal's width among the columns; a pipe gets wide lines. */
function columnWidths(): number[] {
  const total = Math.max(80, Math.min(output.columns ?? 140, 160)) - 5
  const [mark, title] = [12, 34]
  const found = Math.floor((total - mark - title) / 2)
  return [mark, title, found, total - mark - title - found]
}
