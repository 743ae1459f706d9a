/** Experiments that mirror the kernel's userfaultfd tests: one for each test and memory family. */
import type { FeatureName } from '../kernel/index.js'
import { experiment } from './experiment.js'
import type { Needs } from '../host/index.js'
import type { Expectation, Experiment } from './experiment.js'
import type { Observations } from './observation.js'
import type { Lab } from './lab.js'
import { selftestKinds } from './memory.js'

export type SelftestKind = (typeof selftestKinds)[number]
type Family = 'anon' | 'shmem' | 'hugetlb'

export interface Selftest {
  /** The name that upstream uses. */
  name: string
  /** Upstream's program; default uffd-unit-tests. */
  program?: string
  kinds?: readonly SelftestKind[]
  question: string
  method: string
  /** Needs besides those of the memory family. */
  needs?: Needs
  /**
   * Whether pages are write-protected, or faults are minor: these need more
   * features in some families.
   */
  writeProtect?: boolean
  minor?: boolean
  /** How many 2 MiB pages hugetlb needs; default 8. */
  hugePages?: number
  /** The expectation for one kind; the first entry that fits the kernel applies. */
  expected: (kind: SelftestKind) => Omit<Expectation, 'source'> | Omit<Expectation, 'source'>[]
  run: (lab: Lab, kind: SelftestKind) => Observations | Promise<Observations>
}

/**
 * Makes up to three experiments, for anonymous, shmem and hugetlb kinds, if the
 * test has such kinds.
 */
export function selftest(test: Selftest): Experiment[] {
  const families: Family[] = ['anon', 'shmem', 'hugetlb']
  const { program = 'uffd-unit-tests' } = test
  return families.flatMap((family) => {
    const kinds = (test.kinds ?? selftestKinds).filter((kind) => familyOf(kind) === family)
    if (kinds.length === 0) return []
    const one = experiment({
      id: `selftest-${test.name}-${family}`,
      tags: ['selftests', `selftest-${test.name}`, family],
      question: test.question,
      method: test.method,
      mirrors: kinds.map((kind) => `${program}: ${test.name} on ${kind}`),
      needs: needsOf(test, family),
      expected: expectationOf(test, kinds, program),
      async run(lab) {
        const seen: Observations = {}
        for (const kind of kinds) Object.assign(seen, prefixed(kind, await test.run(lab, kind)))
        return seen
      },
    })
    return [one]
  })
}

function familyOf(kind: SelftestKind): Family {
  return kind.startsWith('hugetlb') ? 'hugetlb' : kind.startsWith('shmem') ? 'shmem' : 'anon'
}

function needsOf(test: Selftest, family: Family): Needs {
  const features: FeatureName[] = [...(test.needs?.features ?? [])]
  if (family === 'shmem') features.push('MISSING_SHMEM')
  if (family === 'hugetlb') features.push('MISSING_HUGETLBFS')
  if (test.writeProtect) features.push('PAGEFAULT_FLAG_WP')
  if (test.writeProtect && family !== 'anon') features.push('WP_HUGETLBFS_SHMEM')
  if (test.minor) features.push(family === 'shmem' ? 'MINOR_SHMEM' : 'MINOR_HUGETLBFS')
  const huge = family === 'hugetlb' ? { hugePages: test.hugePages ?? 8 } : {}
  return { ...test.needs, features, ...huge }
}

/**
 * Lists of expectations depend on the kernel only, so they are alike for all kinds of a family.
 */
function expectationOf(
  test: Selftest,
  kinds: readonly SelftestKind[],
  program: string,
): Expectation[] {
  const source = `tools/testing/selftests/mm/${program}.c; kernel-behaviour section 9`
  const lists = kinds.map((kind) => ({ kind, list: [test.expected(kind)].flat() }))
  return (lists[0]?.list ?? []).map((first, index) => ({
    ...first,
    source,
    values: Object.assign(
      {},
      ...lists.map(({ kind, list }) => prefixed(kind, list[index]?.values ?? {})),
    ) as Expectation['values'],
  }))
}

function prefixed<T>(kind: SelftestKind, facts: Record<string, T>): Record<string, T> {
  return Object.fromEntries(Object.entries(facts).map(([name, fact]) => [`${kind}: ${name}`, fact]))
}
