/** Suggests what the user probably meant. */

/**
 * The candidate with the fewest edits, if they are few.
 *
 * @param mostEdits - how many are few; default: a third of the candidate's characters
 */
export function closestWord(
  text: string,
  candidates: readonly string[],
  mostEdits = (candidate: string): number => Math.max(1, Math.floor(candidate.length / 3)),
): string | undefined {
  const [best] = candidates
    .map((candidate) => ({ candidate, edits: editDistance(text, candidate) }))
    .sort((a, b) => a.edits - b.edits)
  return best !== undefined && best.edits <= mostEdits(best.candidate) ? best.candidate : undefined
}

/** Number of insertions, deletions and replacements from `a` to `b`. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
