/** The file format of a run: `lab run --json` prints it, `report` and `compare` read it. */
import { PostcopyError } from '../errors.js'
import { readUserFile } from '../user-files.js'
import type { Fingerprint } from '../host/index.js'
import type { Row } from './runner.js'
import { verdicts } from './verdict.js'
import type { Verdict } from './verdict.js'

/** Largest document that is read; a run prints a few hundred KiB. */
const LIMIT_BYTES = 64 * 1024 * 1024

export interface LabDocument {
  format: 'postcopy-lab'
  version: 1
  startedAt: string
  durationMs: number
  fingerprint: Fingerprint
  counts: Record<Verdict, number>
  rows: Row[]
}

export function makeDocument(fingerprint: Fingerprint, rows: Row[], startedAt: Date): LabDocument {
  return {
    format: 'postcopy-lab',
    version: 1,
    startedAt: startedAt.toISOString(),
    durationMs: Date.now() - startedAt.getTime(),
    fingerprint,
    counts: countVerdicts(rows),
    rows,
  }
}

export function countVerdicts(rows: readonly Row[]): Record<Verdict, number> {
  const count = (verdict: Verdict) => rows.filter((row) => row.verdict === verdict).length
  return Object.fromEntries(verdicts.map((each) => [each, count(each)])) as Record<Verdict, number>
}

/**
 * Reads what `lab run --json` printed.
 *
 * @throws PostcopyError `ERR_LAB_DOCUMENT` if the file is no such document; the message says why
 */
export async function readDocument(path: string): Promise<LabDocument> {
  const refuse = (why: string, cause?: unknown) => {
    const hint = `make one with: postcopy lab run --json > ${path}`
    return new PostcopyError('ERR_LAB_DOCUMENT', `${path} ${why}; ${hint}`, { cause })
  }
  let parsed: unknown
  try {
    const bytes = await readUserFile(path, LIMIT_BYTES)
    parsed = JSON.parse(bytes.toString())
  } catch (cause) {
    throw refuse(`cannot be read as JSON (${String(cause)})`, cause)
  }
  const document = parsed as Partial<LabDocument> | null
  if (document?.format !== 'postcopy-lab' || !Array.isArray(document.rows)) {
    throw refuse('is not the output of postcopy lab run --json')
  }
  // The version is checked first: another version may have a document of another shape.
  if (Number(document.version) !== 1 || document.fingerprint === undefined) {
    throw refuse(`is of version ${String(document.version)}, and this is version 1`)
  }
  const wrong = wrongIn(document)
  if (wrong !== undefined) throw refuse(`is damaged: ${wrong}`)
  // Counts are computed from the rows, not taken from the file.
  return { ...(document as LabDocument), counts: countVerdicts(document.rows) }
}

/** @returns the first member that {@link makeDocument} would not write */
function wrongIn(document: Partial<LabDocument>): string | undefined {
  const { startedAt, durationMs, fingerprint, rows = [] } = document
  if (typeof startedAt !== 'string') return 'startedAt is not a string'
  if (typeof durationMs !== 'number') return 'durationMs is not a number'
  if (typeof fingerprint !== 'object') return 'fingerprint is not an object'
  for (const [index, row] of (rows as unknown[]).entries()) {
    const wrong = wrongInRow(row)
    if (wrong !== undefined) return `rows[${index}]: ${wrong}`
  }
  return undefined
}

function wrongInRow(row: unknown): string | undefined {
  if (!isRecord(row)) return 'not an object'
  const { findings, plots, verdict, durationMs, reason } = row
  for (const name of ['id', 'question', 'method', 'source']) {
    if (typeof row[name] !== 'string') return `${name} is not a string`
  }
  for (const name of ['tags', 'mirrors', 'notes']) {
    if (!isListOf(row[name], isText)) return `${name} is not a list of strings`
  }
  if (!verdicts.some((known) => known === verdict)) return 'unknown verdict'
  if (reason !== undefined && typeof reason !== 'string') return 'reason is not a string'
  if (typeof durationMs !== 'number') return 'durationMs is not a number'
  if (!isListOf(findings, isFinding)) return 'findings are damaged'
  return isListOf(plots, isPlot) ? undefined : 'plots are damaged'
}

function isFinding(value: unknown): boolean {
  if (!isRecord(value) || !isText(value['name'])) return false
  const texts = ['expected', 'seen', 'unavailable']
  return texts.every((name) => value[name] === undefined || isText(value[name]))
}

function isPlot(value: unknown): boolean {
  if (!isRecord(value) || !isText(value['title'])) return false
  switch (value['kind']) {
    case 'distributions':
      return isListOf(
        value['distributions'],
        (one) =>
          isRecord(one) &&
          isText(one['name']) &&
          [one['p50'], one['p99'], one['count']].every(isNumber) &&
          isListOf(one['curve'], isNumber),
      )
    case 'curves':
      return (
        isText(value['xLabel']) &&
        isText(value['yLabel']) &&
        isListOf(
          value['curves'],
          (one) =>
            isRecord(one) &&
            isText(one['name']) &&
            isListOf(one['x'], isNumber) &&
            isListOf(one['y'], isNumber),
        )
      )
    case 'bars':
      return (
        isText(value['yLabel']) &&
        isListOf(
          value['bars'],
          (one) => isRecord(one) && isText(one['name']) && isNumber(one['value']),
        )
      )
    default:
      return false
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isListOf(value: unknown, check: (one: unknown) => boolean): boolean {
  return Array.isArray(value) && value.every((one) => check(one))
}

function isText(value: unknown): boolean {
  return typeof value === 'string'
}

function isNumber(value: unknown): boolean {
  return typeof value === 'number'
}
