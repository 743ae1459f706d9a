/** Describes what the check of guest RAM found. */
import { assertNever, hex } from '../units.js'
import { FindingRow } from './native.js'

/**
 * In the order of `Verdict` in native/common/content.h.
 *
 * - `lost`: zero, although it was written
 * - `misplaced`: has the content of another page
 * - `stale`: intact, but older than the version in its ledger entry. In the block `ledger`: an
 *   entry older than its page, or a range of entries older than the vCPU's own count of writes
 * - `torn`: lines of different versions or pages
 * - `corrupt`: bytes that no vCPU wrote
 */
export const VERDICTS = ['lost', 'misplaced', 'stale', 'torn', 'corrupt'] as const
export type PageVerdict = (typeof VERDICTS)[number]

/** In the order of `Block` in native/common/content.h. */
export const BLOCKS = ['ram', 'ledger'] as const

/** One error in guest RAM. */
export interface Finding {
  readonly verdict: PageVerdict
  /** Name of the RAM block. */
  readonly block: (typeof BLOCKS)[number]
  /** From the start of the block to the first wrong byte, as far as it is known. */
  readonly offsetBytes: number
  /** The extent of the error: a page, a 64-byte line, a byte, a ledger entry or a range of them. */
  readonly lengthBytes: number
  /** The value found: a version, a page index if misplaced, a byte or checksum if corrupt. */
  readonly got: number
  /** The value expected, in the same terms. */
  readonly expected: number
}

/** Decodes findings in the addon's format. */
export function decodeFindings(numbers: Float64Array): Finding[] {
  const findings: Finding[] = []
  for (let at = 0; at + FindingRow.stride <= numbers.length; at += FindingRow.stride) {
    findings.push({
      verdict: VERDICTS[numbers[at + FindingRow.verdict] ?? -1] ?? 'corrupt',
      block: BLOCKS[numbers[at + FindingRow.block] ?? -1] ?? 'ram',
      offsetBytes: numbers[at + FindingRow.offsetBytes] ?? 0,
      lengthBytes: numbers[at + FindingRow.lengthBytes] ?? 0,
      got: numbers[at + FindingRow.got] ?? 0,
      expected: numbers[at + FindingRow.expected] ?? 0,
    })
  }
  return findings
}

/** `ram+0x1f000: stale page, version 3 instead of 5`. */
export function formatFinding(finding: Finding): string {
  const { verdict, block, offsetBytes, lengthBytes, got, expected } = finding
  return `${block}+${hex(offsetBytes)}: ${describe()}`

  function describe(): string {
    if (block === 'ledger') return `${verdict} ledger, ${lengthBytes} bytes: ${got} for ${expected}`
    switch (verdict) {
      case 'lost':
        return `lost page: zero instead of ${expected}`
      case 'misplaced':
        return `misplaced page: content of page ${got} instead of ${expected}`
      case 'stale':
        return `stale page: version ${got} instead of ${expected}`
      case 'torn':
        return `torn page: a line of version ${got} instead of ${expected}`
      case 'corrupt':
        return lengthBytes === 1
          ? `corrupt byte, ${hex(got)} instead of ${hex(expected)}`
          : `corrupt page, checksum ${hex(got)} instead of ${hex(expected)}`
      default:
        return assertNever(verdict)
    }
  }
}
