/** Selects the experiments that a command line names. */
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { closestWord } from '../closest-word.js'
import { PostcopyError } from '../errors.js'
import { statUserFile } from '../user-files.js'
import type { Described } from './describe.js'
import { runChild } from './runner.js'
import type { Row } from './runner.js'

export interface Selection {
  experiments: Described[]
  /** One row for each file that could not be loaded. */
  broken: Row[]
}

const describeDeadlineMs = 10_000

/**
 * Selects experiments by id, tag or file; an empty list selects the whole catalogue.
 *
 * @throws PostcopyError `ERR_LAB_UNKNOWN` for an unknown word, with the closest known one
 */
export async function select(
  catalogue: readonly Described[],
  words: readonly string[],
): Promise<Selection> {
  if (words.length === 0) return { experiments: [...catalogue], broken: [] }
  const chosen = new Set<Described>()
  const broken: Row[] = []
  for (const word of words) {
    if (isFile(word)) {
      const found = await describeFile(word)
      if ('verdict' in found) broken.push(found)
      else for (const each of found.experiments) chosen.add(each)
      continue
    }
    const matching = catalogue.filter(({ id, tags }) => id === word || tags.includes(word))
    if (matching.length === 0) throw unknownWord(word, catalogue)
    for (const each of matching) chosen.add(each)
  }
  return { experiments: [...chosen], broken }
}

function isFile(word: string): boolean {
  return word.includes('/') || /\.[cm]?[jt]s$/.test(word)
}

/** Loads the file in a process of its own: a module may throw, hang or exit when it is loaded. */
async function describeFile(path: string): Promise<{ experiments: Described[] } | Row> {
  const absolute = resolve(path)
  const stat = lookAt(absolute)
  if (stat === undefined) {
    throw new PostcopyError('ERR_LAB_UNKNOWN', `no file ${absolute}`)
  }
  // A child that opens a FIFO without a writer would block for ever.
  if (!stat.isFile()) {
    throw new PostcopyError('ERR_LAB_UNKNOWN', `${absolute} is not a regular file`)
  }
  const order = { type: 'describe', module: pathToFileURL(absolute).href } as const
  const { answer, how } = await runChild(order, describeDeadlineMs)
  if (answer?.type === 'described' && answer.experiments.length > 0) return answer
  const reason =
    answer?.type === 'described'
      ? 'exports no experiment: export const mine = experiment({ … })'
      : answer?.type === 'failed'
        ? `threw when it was loaded: ${answer.error}`
        : how
  return {
    id: path,
    tags: [],
    question: '',
    method: '',
    mirrors: [],
    verdict: 'broken',
    reason,
    findings: [],
    source: '',
    notes: [],
    plots: [],
    durationMs: 0,
  }
}

/** @throws PostcopyError `ERR_LAB_UNKNOWN` if the file cannot be examined */
function lookAt(file: string): ReturnType<typeof statUserFile> {
  try {
    return statUserFile(file)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new PostcopyError('ERR_LAB_UNKNOWN', why, { cause })
  }
}

function unknownWord(word: string, catalogue: readonly Described[]): PostcopyError {
  const known = [...new Set(catalogue.flatMap(({ id, tags }) => [id, ...tags]))]
  const near = suggestWord(word, known)
  const hint = near === undefined ? '' : `; did you mean "${near}"?`
  return new PostcopyError(
    'ERR_LAB_UNKNOWN',
    `no experiment or tag "${word}"${hint} (postcopy lab list shows all)`,
  )
}

/**
 * The known word with the fewest edits if those are few for its length, else one that contains it.
 */
export function suggestWord(word: string, known: readonly string[]): string | undefined {
  const mostEdits = (): number => Math.max(2, Math.floor(word.length / 2))
  return closestWord(word, known, mostEdits) ?? known.find((each) => each.includes(word))
}
