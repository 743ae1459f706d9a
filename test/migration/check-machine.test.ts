import assert from 'node:assert/strict'
import { PageFile } from '../../src/kernel/index.js'
import { checkMachine } from '../../src/migration/check-machine.js'
import type { MachineBlock, MigratableMachine } from '../../src/migration/machine.js'
import { PageBitmap } from '../../src/ram/page-bitmap.js'
import type { PageSourceBlock } from '../../src/sources/index.js'
import { cleanups } from '../support/cleanup.js'
import { makeRegion } from '../support/memory-kinds.js'
import { TestMachine } from '../support/test-machine.js'

const PAGE = 4096

/** A valid machine, changed by `changes`. */
function machine(changes: object = {}): MigratableMachine {
  const valid = new TestMachine({ blocks: { ram: 4 * PAGE } })
  return Object.assign(Object.create(valid) as MigratableMachine, changes)
}

/** A machine with one block that differs from a valid one. */
function withBlock(changes: object): MigratableMachine {
  const block: MachineBlock = { name: 'ram', region: makeRegion('anon', 4), lengthBytes: 4 * PAGE }
  return machine({ blocks: [{ ...block, ...changes }] })
}

function openPages(): PageFile {
  const pages = PageFile.open({ fds: [], lengthBytes: 4 * PAGE, runs: new Float64Array() })
  cleanups.add(() => pages.close())
  return pages
}

/** The same with a block of a page source. */
function withSourceBlock(changes: object): MigratableMachine {
  const block: PageSourceBlock = {
    name: 'ram',
    lengthBytes: 4 * PAGE,
    pageSizeBytes: PAGE,
    pages: openPages(),
    data: new PageBitmap(4),
  }
  return machine({ blocks: [{ ...block, ...changes }] })
}

const refused = (code: string, cases: Readonly<Record<string, () => unknown>>): void => {
  for (const [what, make] of Object.entries(cases)) {
    it(`rejects ${what}`, () => {
      assert.throws(() => checkMachine(make() as MigratableMachine), { code })
    })
  }
}

describe('checkMachine', () => {
  it('accepts the smallest machine, and one with everything', () => {
    checkMachine(machine())
    checkMachine(machine({ blocks: [] }))
    checkMachine(
      machine({
        configuration: Uint8Array.of(1),
        ramSectionId: 2 ** 32 - 1,
        loadOpaque: undefined,
        checkConfiguration: () => undefined,
        loadRanges: [{ block: 'ram', offset: 3 * PAGE, lengthBytes: PAGE }],
      }),
    )
    checkMachine(withBlock({ lengthBytes: 2 * PAGE, pageSizeBytes: 2 * PAGE }))
    checkMachine(withSourceBlock({}))
    checkMachine(withSourceBlock({ available: new PageBitmap(4) }))
  })

  refused('ERR_INVALID_MACHINE', {
    'no object': () => undefined,
    null: () => null,
    'a machine type that is no string': () => machine({ machineType: 5 }),
    'a configuration that is no bytes': () => machine({ configuration: 'pc' }),
    'a section id of 33 bits': () => machine({ ramSectionId: 2 ** 32 }),
    'a section id that is not whole': () => machine({ ramSectionId: 1.5 }),
    'a missing hook': () => machine({ start: undefined }),
    'a hook that is no function': () => machine({ saveDevices: [] }),
    'an optional hook that is no function': () => machine({ loadOpaque: 1 }),
    'blocks that are no array': () => machine({ blocks: {} }),
    'a block whose name is no string': () => withBlock({ name: 1 }),
    'load ranges of no block': () =>
      machine({ loadRanges: [{ block: 'rom', offset: 0, lengthBytes: PAGE }] }),
    'load ranges after the end of the block': () =>
      machine({ loadRanges: [{ block: 'ram', offset: 3 * PAGE, lengthBytes: 2 * PAGE }] }),
    'load ranges of parts of pages': () =>
      machine({ loadRanges: [{ block: 'ram', offset: 1, lengthBytes: PAGE }] }),
    'load ranges of a negative length': () =>
      machine({ loadRanges: [{ block: 'ram', offset: PAGE, lengthBytes: -PAGE }] }),
  })

  refused('ERR_INVALID_BLOCK', {
    'two blocks of one name': () => {
      const { blocks } = machine()
      return machine({ blocks: [...blocks, ...blocks] })
    },
    'a block without a name': () => withBlock({ name: '' }),
    'a name of 256 bytes': () => withBlock({ name: 'ä'.repeat(128) }),
    'a region of another class': () => withBlock({ region: {} }),
    'a closed region': () => {
      const region = makeRegion('anon', 4)
      region.close()
      return withBlock({ region })
    },
    'a block of no bytes': () => withBlock({ lengthBytes: 0 }),
    'a block of a part of a page': () => withBlock({ lengthBytes: PAGE + 1 }),
    'a block of a part of its host page': () =>
      withBlock({ lengthBytes: 3 * PAGE, pageSizeBytes: 2 * PAGE }),
    'a block longer than its region': () => withBlock({ lengthBytes: 5 * PAGE }),
    'host pages of no bytes': () => withBlock({ pageSizeBytes: 0 }),
    'host pages of parts of pages': () => withBlock({ pageSizeBytes: PAGE / 2 }),
    'available pages of another block': () => withSourceBlock({ available: new PageBitmap(5) }),
    'pages with data of another block': () => withSourceBlock({ data: new PageBitmap(3) }),
    'pages in something else': () => withSourceBlock({ pages: {} }),
    'pages of files that were closed': () => {
      const pages = openPages()
      pages.close()
      return withSourceBlock({ pages })
    },
  })

  it('rejects a synchronous hook that is an async function, by name', () => {
    const loadDevice = async (): Promise<number> => Promise.resolve(1)
    assert.throws(() => checkMachine(machine({ loadDevice })), {
      code: 'ERR_MACHINE_HOOK',
      message: /loadDevice/,
    })
    checkMachine(machine({ stop: async () => Promise.resolve() }))
  })
})
