/** `postcopy lab`: measures what this kernel really does, as a table, in seconds. */
import { Command, InvalidArgumentError } from 'commander'
import { type FeatureName, featureNames } from '../kernel/index.js'
import {
  compareDocuments,
  comparisonText,
  countsText,
  type LabDocument,
  listText,
  loadCatalogue,
  makeDocument,
  suggestWord,
  readDocument,
  resultText,
  rowLine,
  runExperiments,
  select,
} from '../lab/internal.js'
import { readHost } from '../host/index.js'
import { checkWritable } from '../user-files.js'
import { output } from './output.js'
import type { RunAction } from './run-command.js'
import type { Scope } from './scope.js'
import { writeReport } from './write-report.js'

interface RunOptions {
  json?: true
  quiet?: true
  without?: FeatureName[]
}

const wordsHelp = 'ids, tags or files (./mine.ts) of experiments; default: the whole catalogue'

export function defineLab(run: RunAction): Command {
  const lab = new Command('lab')
    .summary('test what userfaultfd and madvise do on this kernel')
    .description(
      'Runs experiments, each in a process of its own, and compares the results with what this ' +
        'version of the kernel is known to do. A difference is a finding; only a broken experiment ' +
        'is a failure (status 1). Settings of the host that an experiment changes are put back.',
    )
  lab.addCommand(defineList(run))
  lab.addCommand(defineRun(run))
  lab.addCommand(defineReport(run))
  lab.addCommand(defineCompare(run))
  return lab
}

function defineList(run: RunAction): Command {
  return new Command('list')
    .description('List the experiments: the question and the needs of each')
    .argument('[words...]', wordsHelp)
    .option('--json', 'print one JSON object')
    .action((words: string[], { json }: { json?: true }) =>
      run(async () => {
        const { experiments } = await select(await loadCatalogue(), words)
        print(json, { experiments }, () => listText(experiments, output.columns))
        return 0
      }),
    )
}

function defineRun(run: RunAction): Command {
  return addRunOptions(new Command('run'))
    .description('Run experiments and show the results beside the expected ones')
    .option('--json', 'print one JSON object, for report and compare')
    .action((words: string[], options: RunOptions) =>
      run(async ({ scope }) => {
        const document = await runAll(words, options, scope)
        print(options.json, document, () => resultText(document, output.columns))
        return document.counts.broken > 0 ? 1 : 0
      }),
    )
}

function defineReport(run: RunAction): Command {
  return addRunOptions(new Command('report'))
    .description('Write one HTML page with the table, a plot for each measurement, and the host')
    .option(
      '--input <file>',
      'draw the output of an earlier "lab run --json" instead of running experiments',
    )
    .option('--output <file>', 'file to write', 'postcopy-lab.html')
    .action((words: string[], options: RunOptions & { input?: string; output: string }) =>
      run(async ({ scope }) => {
        const { input, output: file } = options
        checkWritable(file)
        const document =
          input === undefined ? await runAll(words, options, scope) : await readDocument(input)
        // Loaded here, because drawing is slow to load and only this command draws.
        const { reportPage } = await import('../lab/report-page.js')
        try {
          await writeReport(file, reportPage(document))
        } catch (error) {
          // Otherwise the results of the run would be lost.
          if (input === undefined) output.print(resultText(document, output.columns))
          throw error
        }
        output.print(`${countsText(document)}\nwrote ${file}\n`)
        return document.counts.broken > 0 ? 1 : 0
      }),
    )
}

function defineCompare(run: RunAction): Command {
  return new Command('compare')
    .description('Show the differences between two runs: verdicts, facts, measurements, hosts')
    .argument('<a>', 'output of "lab run --json"')
    .argument('<b>', 'output of another run: another host, kernel or time')
    .option('--json', 'print one JSON object')
    .action((a: string, b: string, { json }: { json?: true }) =>
      run(async () => {
        const comparison = compareDocuments(await readDocument(a), await readDocument(b))
        print(json, comparison, () => comparisonText(comparison, output.columns))
        return 0
      }),
    )
}

function addRunOptions(command: Command): Command {
  return command
    .argument('[words...]', wordsHelp)
    .option('--quiet', 'print no progress lines on stderr')
    .option(
      '--without <feature>',
      'treat a feature of userfaultfd as absent, as on an older kernel (repeatable)',
      collectFeature,
    )
}

function collectFeature(text: string, before: FeatureName[] = []): FeatureName[] {
  const found = featureNames.find((name) => name === text.replace(/^UFFD_FEATURE_/, ''))
  if (found !== undefined) return [...before, found]
  const near = suggestWord(text, featureNames)
  throw new InvalidArgumentError(near === undefined ? 'No such feature.' : `Did you mean ${near}?`)
}

async function runAll(
  words: readonly string[],
  options: RunOptions,
  scope: Scope,
): Promise<LabDocument> {
  const startedAt = new Date()
  const { experiments, broken } = await select(await loadCatalogue(), words)
  scope.throwIfClosed()
  const hide = options.without ?? []
  const running = runExperiments(experiments, {
    hide,
    signal: scope.signal,
    onRow: (row) => {
      if (options.quiet !== true) output.say(rowLine(row))
    },
  })
  // At its end, a command waits for the experiment that it interrupts.
  const rows = await scope.use(running, () => undefined)
  return makeDocument(readHost(hide).fingerprint, [...broken, ...rows], startedAt)
}

function print(json: true | undefined, value: unknown, inWords: () => string): void {
  if (json === true) output.json(value)
  else output.print(inWords())
}
