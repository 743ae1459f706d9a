/** A run as a file: what `lab run --json` prints, and `report` and `compare` read. */
import { readFileSync } from 'node:fs'
import { PostcopyError } from '../errors.js'
import type { Fingerprint } from './host.js'
import type { Row } from './runner.js'
import { verdicts } from './verdict.js'
import type { Verdict } from './verdict.js'

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
 * @throws PostcopyError `ERR_LAB_DOCUMENT` if the file is not one, with what is wrong
 */
export function readDocument(path: string): LabDocument {
  const refuse = (why: string, cause?: unknown) => {
    const hint = `make one with: postcopy lab run --json > ${path}`
    return new PostcopyError('ERR_LAB_DOCUMENT', `${path} ${why}; ${hint}`, { cause })
  }
  let parsed: unknown
  try {
    parsed = JSON.parse(readFileSync(path, 'utf8'))
  } catch (cause) {
    throw refuse(`cannot be read as JSON (${String(cause)})`, cause)
  }
  const document = parsed as Partial<LabDocument> | null
  if (document?.format !== 'postcopy-lab' || !Array.isArray(document.rows)) {
    throw refuse('is not a result of the lab')
  }
  // Read again as a whole, since the version is what could have changed.
  if (Number(document.version) !== 1 || document.fingerprint === undefined) {
    throw refuse(`is of version ${String(document.version)}, and this is version 1`)
  }
  return document as LabDocument
}
