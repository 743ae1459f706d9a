/** Runs a suite for each kind of memory, as the kernel's own tests do. */
import { MemoryRegion } from '../../src/kernel/index.js'
import { cleanups } from './cleanup.js'
import { lendHugePages } from './huge-pages.js'
import { requires } from './requires.js'

export type MemoryKind = 'anon' | 'memfd' | 'hugetlb'

export const allKinds: readonly MemoryKind[] = ['anon', 'memfd', 'hugetlb']

/** The host page size of a kind, in bytes. */
export function hostPageOf(kind: MemoryKind): number {
  return kind === 'hugetlb' ? 2 ** 21 : 4096
}

export function describeKinds(
  title: string,
  kinds: readonly MemoryKind[],
  suite: (kind: MemoryKind, hostPage: number) => void,
): void {
  for (const kind of kinds) {
    describe(`${title} (${kind})`, () => {
      if (kind === 'hugetlb') {
        before(function () {
          requires(this, 'hugePages')
        })
        lendHugePages(32)
      }
      suite(kind, hostPageOf(kind))
    })
  }
}

/** A region of this many host pages, closed after the test. */
export function makeRegion(
  kind: MemoryKind,
  hostPages: number,
  options: { alias?: boolean } = {},
): MemoryRegion {
  const lengthBytes = hostPages * hostPageOf(kind)
  const region = MemoryRegion.create({ kind, lengthBytes, ...options })
  cleanups.add(() => {
    region.close()
  })
  return region
}

/** Bytes of a region without missing pages. */
export function bytesAt(region: MemoryRegion, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  region.read(offset, bytes)
  return bytes
}

/** Content that differs for each seed. */
export function pageContent(seed: number, lengthBytes = 4096): Uint8Array {
  const bytes = new Uint8Array(lengthBytes)
  for (let i = 0; i < lengthBytes; i += 1) bytes[i] = (seed * 31 + i * 7 + (i >> 8)) % 251
  bytes[0] = (seed % 255) + 1
  return bytes
}
