/** What the check of guest RAM found, in words. */
import { assertNever } from '../units.js'

/**
 * In the order of `Verdict` in native/content.h.
 *
 * - `lost`: zero, but it was written
 * - `misplaced`: holds another page's content
 * - `stale`: whole, but of an older version than its ledger entry; in the block `ledger`, an
 *   entry older than its page, or a range of entries older than the vCPU's own count of writes
 * - `torn`: lines of different versions or pages
 * - `corrupt`: bytes that nobody wrote
 */
export const VERDICTS = ['lost', 'misplaced', 'stale', 'torn', 'corrupt'] as const
export type Verdict = (typeof VERDICTS)[number]

const BLOCKS = ['ram', 'ledger'] as const

/** One thing that is wrong with guest RAM. */
export interface Finding {
  readonly verdict: Verdict
  /** Name of the RAM block. */
  readonly block: (typeof BLOCKS)[number]
  /** From the start of the block to the first wrong byte, as far as it can be told. */
  readonly offsetBytes: number
  /** How much is wrong: a page, a 64-byte line, a byte, a ledger entry or a range of them. */
  readonly lengthBytes: number
  /** What is there: a version, a page index where misplaced, a byte or checksum where corrupt. */
  readonly got: number
  /** What has to be there, in the same terms. */
  readonly expected: number
}

const FINDING_STRIDE = 6

/** Reads findings as the addon hands them over. */
export function decodeFindings(numbers: Float64Array): Finding[] {
  const findings: Finding[] = []
  for (let at = 0; at + FINDING_STRIDE <= numbers.length; at += FINDING_STRIDE) {
    const [verdict = 0, block = 0, offsetBytes = 0, lengthBytes = 0, got = 0, expected = 0] =
      numbers.subarray(at, at + FINDING_STRIDE)
    findings.push({
      verdict: VERDICTS[verdict] ?? 'corrupt',
      block: BLOCKS[block] ?? 'ram',
      offsetBytes,
      lengthBytes,
      got,
      expected,
    })
  }
  return findings
}

/** `ram+0x1f000: stale page, version 3 instead of 5`. */
export function formatFinding(finding: Finding): string {
  const { verdict, block, offsetBytes, lengthBytes, got, expected } = finding
  return `${block}+0x${offsetBytes.toString(16)}: ${describe()}`

  function describe(): string {
    if (block === 'ledger') return `${verdict} ledger, ${lengthBytes} bytes: ${got} for ${expected}`
    switch (verdict) {
      case 'lost':
        return `lost page, zero though it was written (${expected} expected)`
      case 'misplaced':
        return `misplaced page, content of page ${got} instead of ${expected}`
      case 'stale':
        return `stale page, version ${got} instead of ${expected}`
      case 'torn':
        return `torn page, a line of version ${got} instead of ${expected}`
      case 'corrupt':
        return lengthBytes === 1
          ? `corrupt byte, 0x${got.toString(16)} instead of 0x${expected.toString(16)}`
          : `corrupt page, checksum 0x${got.toString(16)} instead of 0x${expected.toString(16)}`
      default:
        return assertNever(verdict)
    }
  }
}
