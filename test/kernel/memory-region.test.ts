import assert from 'node:assert/strict'
import {
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KernelError, MemoryRegion } from '../../src/kernel/index.js'
import { cleanups } from '../support/cleanup.js'
import {
  allKinds,
  bytesAt,
  describeKinds,
  makeRegion,
  pageContent,
} from '../support/memory-kinds.js'
import { smapsOf } from '../support/smaps.js'

function mapsLine(address: number): string | undefined {
  const start = `${address.toString(16)}-`
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .find((line) => line.startsWith(start))
}

function temporaryFile(lengthBytes: number): number {
  const path = join(tmpdir(), `postcopy-test-${process.pid}-${Math.random().toString(36).slice(2)}`)
  const fd = openSync(path, 'w+')
  unlinkSync(path)
  ftruncateSync(fd, lengthBytes)
  cleanups.add(() => {
    closeSync(fd)
  })
  return fd
}

describeKinds('MemoryRegion', allKinds, (kind, hostPage) => {
  it('maps zero pages of its kind', () => {
    const region = makeRegion(kind, 2)
    assert.equal(region.kind, kind)
    assert.equal(region.pageSizeBytes, hostPage)
    assert.equal(region.lengthBytes, 2 * hostPage)
    assert.equal(region.address % hostPage, 0)
    assert.deepEqual(bytesAt(region, hostPage - 2, 4), new Uint8Array(4))
  })

  it('reads written bytes across a page border', () => {
    const region = makeRegion(kind, 2)
    const content = pageContent(3, 6000)
    region.write(hostPage - 3000, content)
    assert.deepEqual(bytesAt(region, hostPage - 3000, 6000), content)
    assert.deepEqual(bytesAt(region, hostPage - 3001, 1), new Uint8Array(1))
  })

  it('rejects every access outside its range', () => {
    const region = makeRegion(kind, 1)
    const end = region.lengthBytes
    const two = new Uint8Array(2)
    const outside: (() => unknown)[] = [
      () => {
        region.read(end - 1, two)
      },
      () => {
        region.write(end, two)
      },
      () => {
        region.read(-1, two)
      },
      () => {
        region.read(0.5, two)
      },
      () => {
        region.read(Number.MAX_SAFE_INTEGER, two)
      },
      () => {
        region.touch(end - 1, 2, 'read')
      },
      () => {
        region.touch(0, Number.MAX_SAFE_INTEGER, 'write')
      },
      () => {
        region.madvise('DONTNEED', end, hostPage)
      },
      () => {
        region.discard(hostPage, hostPage)
      },
      () => region.mincore(0, end + 1),
      () => region.readFile(0, 0, end, 1),
      () => region.writeFile(0, 0, 1, end),
      () => region.scan({ offset: end, length: 1, out: new Float64Array(4) }),
    ]
    for (const access of outside) assert.throws(access, RangeError)
    region.read(end, new Uint8Array(0))
    region.touch(end, 0, 'write')
  })

  it('loses exactly the discarded pages', () => {
    const region = makeRegion(kind, 3)
    for (let page = 0; page < 3; page += 1) region.write(page * hostPage, pageContent(page, 64))
    region.discard(hostPage, hostPage)
    const perPage = hostPage / 4096
    const resident = region.mincore(0, region.lengthBytes)
    assert.equal(resident.length, 3 * perPage)
    assert.deepEqual([resident[0], resident[perPage], resident[2 * perPage]], [1, 0, 1])
    assert.deepEqual(bytesAt(region, hostPage, 64), new Uint8Array(64))
    assert.deepEqual(bytesAt(region, 2 * hostPage, 64), pageContent(2, 64))
  })

  it('is unmapped by close, and every later use is ERR_CLOSED', () => {
    const region = makeRegion(kind, 1)
    region.touch(0, 1, 'write')
    assert(mapsLine(region.address) !== undefined)
    region.close()
    region.close()
    assert.equal(mapsLine(region.address), undefined)
    const bytes = new Uint8Array(1)
    const uses: (() => unknown)[] = [
      () => {
        region.read(0, bytes)
      },
      () => {
        region.write(0, bytes)
      },
      () => {
        region.touch(0, 1, 'read')
      },
      () => {
        region.madvise('DONTNEED')
      },
      () => {
        region.discard(0, hostPage)
      },
      () => region.mincore(0, 1),
      () => region.readFile(0, 0, 0, 1),
      () => region.writeFile(0, 0, 0, 1),
      () => region.scan({ out: new Float64Array(4) }),
      () => region.lease(),
    ]
    for (const use of uses) assert.throws(use, { code: 'ERR_CLOSED' })
    assert.throws(() => MemoryRegion.attach(region.id), { code: 'ENOENT' })
  })

  it('is not inherited by child processes', () => {
    const region = makeRegion(kind, 1)
    assert.match(smapsOf(region, 'VmFlags'), /\bdc\b/)
  })

  it('allows or forbids transparent huge pages, if the host has them', () => {
    const region = makeRegion(kind, 4)
    const flagsWith = (advice: 'HUGEPAGE' | 'NOHUGEPAGE'): string => {
      region.adviseHugePages(advice)
      return smapsOf(region, 'VmFlags')
    }
    const exist = existsSync('/sys/kernel/mm/transparent_hugepage')
    assert.equal(/\bhg\b/.test(flagsWith('HUGEPAGE')), exist)
    assert.equal(/\bnh\b/.test(flagsWith('NOHUGEPAGE')), exist)
  })

  it('touches each host page once, and a write touch keeps the content', () => {
    const region = makeRegion(kind, 3)
    region.write(hostPage, pageContent(1, 32))
    region.discard(0, hostPage)
    region.touch(0, 3 * hostPage, 'write')
    const perPage = hostPage / 4096
    const resident = region.mincore(0, region.lengthBytes)
    assert.deepEqual([resident[0], resident[perPage], resident[2 * perPage]], [1, 1, 1])
    assert.deepEqual(bytesAt(region, hostPage, 32), pageContent(1, 32))
  })
})

describeKinds('MemoryRegion alias', ['memfd', 'hugetlb'], (kind) => {
  it('maps the same pages twice', () => {
    const region = makeRegion(kind, 1, { alias: true })
    assert(region.aliasAddress !== undefined && region.aliasAddress !== region.address)
    const inode = (address: number) => mapsLine(address)?.split(/\s+/)[4]
    assert.equal(inode(region.aliasAddress), inode(region.address))
    region.close()
    assert.equal(mapsLine(region.aliasAddress), undefined)
  })
})

describe('MemoryRegion', () => {
  it('names the setting if there are too few huge pages', () => {
    assert.throws(
      () => MemoryRegion.create({ kind: 'hugetlb', lengthBytes: 2 ** 40 }),
      (error) => error instanceof KernelError && /vm\.nr_hugepages/.test(error.hint ?? ''),
    )
  })

  it('names the failed call, with its errno', () => {
    assert.throws(() => MemoryRegion.create({ kind: 'anon', lengthBytes: 2 ** 52 }), {
      code: 'ENOMEM',
      errno: -12,
      syscall: 'mmap',
    })
    assert.throws(() => MemoryRegion.create({ kind: 'memfd', lengthBytes: 5000 }), {
      code: 'EINVAL',
      hint: 'the length must be whole pages and more than 0',
    })
    assert.throws(() => MemoryRegion.create({ kind: 'anon', lengthBytes: 0 }), { code: 'EINVAL' })
    assert.throws(() => MemoryRegion.attach(2 ** 40), { code: 'ENOENT' })
  })

  it('rejects unknown options and kinds', () => {
    const lengthBytes = 4096
    // @ts-expect-error a misspelt option
    assert.throws(() => MemoryRegion.create({ kind: 'anon', lengthBytes, aliass: true }), TypeError)
    // @ts-expect-error a kind that only openFile makes
    assert.throws(() => MemoryRegion.create({ kind: 'file', lengthBytes }), TypeError)
    assert.throws(
      () => MemoryRegion.create({ kind: 'anon', lengthBytes, alias: true }),
      /alias needs/,
    )
    const region = makeRegion('anon', 1)
    assert.throws(() => {
      // @ts-expect-error an advice that does not exist
      region.madvise('NEVERMIND')
    }, RangeError)
  })

  it('passes madvise on to the kernel', () => {
    const region = makeRegion('anon', 2)
    region.madvise('POPULATE_WRITE')
    assert.deepEqual([...region.mincore(0, 8192)], [1, 1])
    region.madvise('DONTNEED', 4096)
    assert.deepEqual([...region.mincore(0, 8192)], [1, 0])
    assert.throws(
      () => {
        region.madvise('REMOVE')
      },
      { code: 'EINVAL', syscall: 'madvise' },
    )
    assert.throws(
      () => {
        region.madvise('DONTNEED', 1, 4096)
      },
      { code: 'EINVAL' },
    )
  })

  it('reads a file into memory and writes memory to a file', () => {
    const fd = temporaryFile(0)
    writeSync(fd, pageContent(5, 100))
    const region = makeRegion('anon', 1)
    assert.equal(region.readFile(fd, 10, 7, 200), 90)
    assert.deepEqual(bytesAt(region, 7, 90), pageContent(5, 100).subarray(10))
    assert.equal(region.writeFile(fd, 500, 7, 90), 90)
    assert.equal(region.readFile(fd, 500, 2000, 90), 90)
    assert.deepEqual(bytesAt(region, 2000, 90), bytesAt(region, 7, 90))
    assert.throws(() => region.readFile(2 ** 30, 0, 0, 1), { code: 'EBADF', syscall: 'pread' })
  })

  it('maps a file, and rejects writes if it was opened for reading', () => {
    const fd = temporaryFile(8192)
    const writable = MemoryRegion.openFile({ fd, lengthBytes: 8192, writable: true })
    const readOnly = MemoryRegion.openFile({ fd, lengthBytes: 4096 })
    cleanups.add(() => {
      writable.close()
      readOnly.close()
    })
    assert.equal(writable.kind, 'file')
    assert.notEqual(writable.fd, fd)
    writable.write(4, pageContent(9, 8))
    assert.deepEqual(bytesAt(readOnly, 4, 8), pageContent(9, 8))
    assert.throws(
      () => {
        readOnly.write(0, new Uint8Array(1))
      },
      { code: 'EACCES' },
    )
    assert.throws(
      () => {
        readOnly.touch(0, 1, 'write')
      },
      { code: 'EACCES' },
    )
    assert.throws(() => MemoryRegion.openFile({ fd, lengthBytes: 12288 }), { code: 'EINVAL' })
    const directory = openSync('/', 'r')
    cleanups.add(() => {
      closeSync(directory)
    })
    assert.throws(() => MemoryRegion.openFile({ fd: directory, lengthBytes: 4096 }), {
      code: 'EINVAL',
    })
  })
})
