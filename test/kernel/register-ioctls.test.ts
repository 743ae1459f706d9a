import assert from 'node:assert/strict'
import type { IoctlName } from '../../src/kernel/index.js'
import { allKinds, describeKinds, makeRegion } from '../support/memory-kinds.js'
import type { MemoryKind } from '../support/memory-kinds.js'
import { openUffd } from '../support/park.js'

/** Ioctls of each kind of memory, besides those of the mode; `undefined`: the mode is refused. */
const base: Record<MemoryKind, readonly IoctlName[]> = {
  anon: ['WAKE', 'COPY', 'ZEROPAGE', 'MOVE', 'POISON'],
  memfd: ['WAKE', 'COPY', 'ZEROPAGE', 'MOVE', 'POISON'],
  hugetlb: ['WAKE', 'COPY', 'POISON'],
}

/** Ioctls of kernels that have the feature of the same name. */
const newer = ['MOVE', 'POISON'] as const

describeKinds('ioctls that register returns', allKinds, (kind) => {
  for (let mode = 0; mode < 8; mode += 1) {
    const missing = mode % 2 === 1
    const writeProtect = mode % 4 >= 2
    const minor = mode >= 4
    const names = Object.entries({ missing, writeProtect, minor })
    const title = names.flatMap(([name, on]) => (on ? [name] : [])).join(' | ')
    it(`for ${title || 'no mode'}`, () => {
      const uffd = openUffd()
      const region = makeRegion(kind, 2)
      const register = () =>
        uffd.register(region.address, region.lengthBytes, { missing, writeProtect, minor })
      if (mode === 0 || (minor && kind === 'anon')) {
        assert.throws(register, { code: 'EINVAL' })
        return
      }
      const expected = new Set(base[kind])
      if (writeProtect) expected.add('WRITEPROTECT')
      if (minor) expected.add('CONTINUE')
      for (const name of newer) {
        if (!uffd.available.has(name)) expected.delete(name)
      }
      assert.deepEqual(register(), expected)
    })
  }
})
