/** `postcopy lab`: what this kernel really does, as a table, in seconds. */
import { writeFileSync } from 'node:fs'
import { Command, InvalidArgumentError } from 'commander'
import { featureNames } from '../kernel/index.js'
import type { FeatureName } from '../kernel/index.js'
import { loadCatalogue } from '../lab/catalogue.js'
import { compareDocuments, comparisonText } from '../lab/comparison.js'
import { makeDocument, readDocument } from '../lab/document.js'
import type { LabDocument } from '../lab/document.js'
import { readHost } from '../lab/host.js'
import { runExperiments } from '../lab/runner.js'
import { nearest, select } from '../lab/select.js'
import { countsText, listText, resultText, rowLine } from '../lab/text.js'

interface RunOptions {
  json?: true
  quiet?: true
  without?: FeatureName[]
}

const wordsHelp = 'ids, tags or files (./mine.ts) of experiments; default: the whole catalogue'

export function defineLab(setStatus: (status: number) => void): Command {
  const lab = new Command('lab')
    .summary('ask this kernel what userfaultfd and madvise really do')
    .description(
      'Runs experiments, each in a process of its own, and compares what was seen with what this ' +
        'version of the kernel is known to do. A difference is a finding; only a broken experiment ' +
        'is a failure (status 1). Settings of the host that an experiment changes are put back.',
    )
  lab.addCommand(defineList())
  lab.addCommand(defineRun(setStatus))
  lab.addCommand(defineReport(setStatus))
  lab.addCommand(defineCompare())
  return lab
}

function defineList(): Command {
  return new Command('list')
    .description('show the experiments: what each one asks, and what it needs')
    .argument('[words...]', wordsHelp)
    .option('--json', 'print one JSON object')
    .action(async (words: string[], { json }: { json?: true }) => {
      const { experiments } = await select(await loadCatalogue(), words)
      print(json === true ? `${JSON.stringify({ experiments })}\n` : listText(experiments))
    })
}

function defineRun(setStatus: (status: number) => void): Command {
  return addRunOptions(new Command('run'))
    .description('run experiments and show what was seen beside what was expected')
    .option('--json', 'print one JSON object, for report and compare')
    .action(async (words: string[], options: RunOptions) => {
      const document = await run(words, options)
      print(options.json === true ? `${JSON.stringify(document)}\n` : resultText(document))
      setStatus(document.counts.broken > 0 ? 1 : 0)
    })
}

function defineReport(setStatus: (status: number) => void): Command {
  return addRunOptions(new Command('report'))
    .description('write one HTML page with the table, a plot for each measurement, and the host')
    .option('--input <file>', 'draw what an earlier "lab run --json" printed, and run nothing')
    .option('--output <file>', 'where the page goes', 'postcopy-lab.html')
    .action(async (words: string[], options: RunOptions & { input?: string; output: string }) => {
      const { input, output } = options
      const document = input === undefined ? await run(words, options) : readDocument(input)
      // Loaded here, since drawing is slow to load and only this command draws.
      const { reportPage } = await import('../lab/report-page.js')
      writeFileSync(output, reportPage(document))
      print(`${countsText(document)}\nwrote ${output}\n`)
      setStatus(document.counts.broken > 0 ? 1 : 0)
    })
}

function defineCompare(): Command {
  return new Command('compare')
    .description('show where two runs differ: verdicts, facts, measurements, hosts')
    .argument('<a>', 'what "lab run --json" printed')
    .argument('<b>', 'the same, of another host, kernel or time')
    .option('--json', 'print one JSON object')
    .action((a: string, b: string, { json }: { json?: true }) => {
      const comparison = compareDocuments(readDocument(a), readDocument(b))
      print(json === true ? `${JSON.stringify(comparison)}\n` : comparisonText(comparison))
    })
}

function addRunOptions(command: Command): Command {
  return command
    .argument('[words...]', wordsHelp)
    .option('--quiet', 'no line for each experiment on stderr while they run')
    .option(
      '--without <feature>',
      'treat a feature of userfaultfd as absent, to see what an older kernel gives (repeatable)',
      collectFeature,
    )
}

function collectFeature(text: string, before: FeatureName[] = []): FeatureName[] {
  const found = featureNames.find((name) => name === text.replace(/^UFFD_FEATURE_/, ''))
  if (found !== undefined) return [...before, found]
  const near = nearest(text, featureNames)
  throw new InvalidArgumentError(near === undefined ? 'No such feature.' : `Did you mean ${near}?`)
}

async function run(words: readonly string[], options: RunOptions): Promise<LabDocument> {
  const startedAt = new Date()
  const { experiments, broken } = await select(await loadCatalogue(), words)
  const hide = options.without ?? []
  const rows = await runExperiments(experiments, {
    hide,
    onRow: (row) => {
      if (options.quiet !== true) process.stderr.write(`${rowLine(row)}\n`)
    },
  })
  return makeDocument(readHost(hide).fingerprint, [...broken, ...rows], startedAt)
}

function print(text: string): void {
  process.stdout.write(text)
}
