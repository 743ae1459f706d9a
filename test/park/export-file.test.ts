import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { type ExportOptions, exportVm } from '../../src/park/index.js'
import { readData } from '../../src/park/read-data.js'
import { runProgram } from '../../src/testing/run-program.js'
import { MAIN, temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import {
  type ExportedFrom,
  fileIn,
  leftIn,
  MIB,
  openVm,
  sharedVm,
  sparseStream,
} from './export-support.js'
import { parkBytes } from './support.js'

const NOBODY = 65534

/** Three chunks of data, so that something happens between the first and the last. */
const small = sparseStream({ 'pc.ram': { lengthBytes: 4 * MIB, pages: [0, 300, 600] } })

/** Makes a directory writable but not readable, and gives up the rights of root. */
function withoutReading(directory: string): { end: () => void } {
  const { geteuid, seteuid } = process
  assert(geteuid !== undefined && seteuid !== undefined)
  const user = geteuid()
  if (user === 0) {
    for (const folder of [dirname(directory), directory]) chownSync(folder, NOBODY, NOBODY)
  }
  chmodSync(directory, 0o300)
  if (user === 0) seteuid(NOBODY)
  return {
    end: () => {
      seteuid(user)
      chmodSync(directory, 0o700)
    },
  }
}

async function fails(
  { vm, folder }: ExportedFrom,
  expected: object,
  options: ExportOptions = {},
): Promise<void> {
  for (const format of ['stream', 'mapped-ram'] as const) {
    await assert.rejects(exportVm(vm, fileIn(folder), { ...options, format }), expected, format)
    assert.deepEqual(leftIn(folder), [], format)
  }
}

describe('the file of an exported VM', () => {
  const shared = sharedVm(small)

  it('is accessible only to its owner', async () => {
    const { vm, folder } = await shared.open()
    await exportVm(vm, fileIn(folder))
    assert.equal(statSync(fileIn(folder)).mode & 0o777, 0o600)
    assert.deepEqual(leftIn(folder), ['exported'])
  })

  it('must not exist, unless it may be replaced', async () => {
    const { vm, folder } = await shared.open()
    const file = fileIn(folder)
    writeFileSync(file, 'mine')
    await assert.rejects(exportVm(vm, file), { code: 'ERR_FILE_EXISTS', message: /--force/ })
    assert.equal(readFileSync(file, 'utf8'), 'mine')
    await exportVm(vm, file, { force: true })
    assert.equal(readFileSync(file).subarray(0, 4).toString(), 'QEVM')
    assert.deepEqual(leftIn(folder), ['exported'])
  })

  it('replaces nothing but regular files', async () => {
    const { vm, folder } = await shared.open()
    const at = (name: string): string => join(folder, name)
    mkdirSync(at('directory'))
    execFileSync('mkfifo', [at('fifo')])
    symlinkSync('nowhere', at('link'))
    for (const name of ['directory', 'fifo', 'link']) {
      const exporting = exportVm(vm, at(name), { force: true })
      await assert.rejects(exporting, { code: 'ERR_FILE_KIND' }, name)
      await assert.rejects(exportVm(vm, at(name)), { code: 'ERR_FILE_EXISTS' }, name)
    }
    assert.deepEqual(leftIn(folder), ['directory', 'fifo', 'link'])
  })

  it('does not replace one that is made meanwhile', async () => {
    const { vm, folder } = await shared.open()
    const file = fileIn(folder)
    const onProgress = (): void => writeFileSync(file, 'mine')
    await assert.rejects(exportVm(vm, file, { onProgress }), { code: 'ERR_FILE_EXISTS' })
    assert.equal(readFileSync(file, 'utf8'), 'mine')
    assert.deepEqual(leftIn(folder), ['exported'])
  })

  it('cannot be made in a directory that does not exist', async () => {
    const { vm, folder } = await shared.open()
    const exporting = exportVm(vm, join(folder, 'no', 'file'))
    await assert.rejects(exporting, { code: 'ENOENT', message: /no\/file cannot be created/ })
  })

  it('cannot be made in a directory that cannot be opened, which is noticed first', async () => {
    const { vm, folder } = await shared.open()
    const directory = join(folder, 'unreadable')
    mkdirSync(directory)
    const file = join(directory, 'exported')
    const asUser = withoutReading(directory)
    const before = readdirSync('/proc/self/fd').length
    try {
      await assert.rejects(exportVm(vm, file), {
        code: 'EACCES',
        message: /unreadable\/exported cannot be created, because .*\/unreadable cannot be opened/,
      })
    } finally {
      asUser.end()
    }
    assert.equal(readdirSync('/proc/self/fd').length, before)
    assert.deepEqual(readdirSync(directory), [])
  })

  it('is not left after an abort', async () => {
    const from = await shared.open()
    const reason = new Error('enough')
    for (const afterChunks of [1, 3]) {
      const controller = new AbortController()
      let chunks = 0
      const onProgress = (): void => {
        chunks += 1
        if (chunks === afterChunks) controller.abort(reason)
      }
      const { signal } = controller
      const exporting = exportVm(from.vm, fileIn(from.folder), { signal, onProgress })
      await assert.rejects(exporting, reason)
      assert.deepEqual(leftIn(from.folder), [])
    }
    await fails(from, reason, { signal: AbortSignal.abort(reason) })
  })

  it('is not left if it cannot be written; the error has the file and what it needs', async () => {
    const { folder, directory } = await shared.open()
    const file = fileIn(folder)
    const args = [process.execPath, MAIN, 'export', directory, file]
    const script = 'ulimit -f 10; exec "$@"'
    const end = await runProgram(['sh', '-c', script, 'sh', ...args], { timeoutMs: 60_000 })
    assert.equal(end.status, 1, end.stderr)
    const message =
      /\/exported cannot be written \(EFBIG\): it needs \d\d\.\d KiB, and files here.*\[EFBIG\]/
    assert.match(end.stderr, message)
    assert.deepEqual(leftIn(folder), [])
  })
})

describe('a VM that is exported', () => {
  const shared = sharedVm(small)

  it('may be closed meanwhile', async () => {
    const { vm, folder } = await shared.open()
    const exporting = exportVm(vm, fileIn(folder))
    vm.close()
    // Another file gets the descriptors that are free now.
    const fds = Array.from({ length: 8 }, () => openSync('/dev/null', 'r'))
    cleanups.add(() => fds.forEach((fd) => closeSync(fd)))
    await exporting
    const again = await parkBytes(readFileSync(fileIn(folder)))
    assert.deepEqual(again.park.manifest?.blocks, vm.manifest.blocks)
  })

  it('is refused if its RAM is damaged, unless checksums are not compared', async () => {
    const from = await shared.copy()
    const fd = openSync(join(from.directory, 'ram-0'), 'r+')
    writeSync(fd, Buffer.of(1), 0, 1, 2 * MIB + 5)
    closeSync(fd)
    const expected = { code: 'ERR_PARKED_DAMAGED', message: /RAM block "pc.ram" of .*\/vm/ }
    await fails(from, expected)
    await exportVm(from.vm, fileIn(from.folder), { verify: false })
  })

  it('is refused if its RAM is truncated meanwhile', async () => {
    const from = await shared.copy()
    const truncate = (): void => truncateSync(join(from.directory, 'ram-0'), MIB)
    await fails(from, { code: 'ERR_PARKED_DAMAGED' }, { onProgress: truncate })
  })

  it('is refused if it is incomplete, with the command that continues it', async () => {
    const { folder, directory } = await shared.copy()
    const path = join(directory, 'manifest.json')
    writeFileSync(path, readFileSync(path, 'utf8').replace('"complete"', '"incomplete"'))
    const vm = openVm(directory, { forRecovery: true })
    const message = /is not complete.*postcopy park URI --recover .*\/vm/
    const expected = { code: 'ERR_PARKED_INCOMPLETE', message }
    await fails({ vm, folder, directory }, expected)
  })

  it('reports its progress up to all of RAM', async () => {
    const { vm, folder } = await shared.open()
    const seen: number[] = []
    await exportVm(vm, fileIn(folder), {
      onProgress: ({ doneBytes, ramBytes }) => {
        assert.equal(ramBytes, 4 * MIB)
        seen.push(doneBytes)
      },
    })
    assert.deepEqual(seen, [MIB, 2 * MIB, 3 * MIB, 4 * MIB])
  })

  it('is exported with known options only', async () => {
    const { vm, folder } = await shared.open()
    const wrong: readonly (readonly [object, string])[] = [
      [{ format: 'qcow2' }, 'ERR_INVALID_OPTION'],
      [{ overwrite: true }, 'ERR_UNKNOWN_OPTION'],
    ]
    for (const [options, code] of wrong) {
      await assert.rejects(exportVm(vm, fileIn(folder), options), { code })
    }
    await assert.rejects(exportVm(vm, '-', { format: 'mapped-ram' }), {
      code: 'ERR_INVALID_OPTION',
    })
  })
})

describe('the data of a sparse file', () => {
  it('is read in chunks, without those that are holes', async () => {
    const path = join(await temporaryFolder(), 'sparse')
    writeFileSync(path, new Uint8Array(MIB / 2).fill(1))
    const fd = openSync(path, 'r+')
    cleanups.add(() => closeSync(fd))
    for (const at of [3 * MIB + 5, 4 * MIB, 5.5 * MIB - 1]) writeSync(fd, Buffer.of(2), 0, 1, at)
    const seen: (readonly [number, number, boolean])[] = []
    for await (const { offset, bytes } of readData(fd, 5.5 * MIB)) {
      const isSame = readFileSync(path)
        .subarray(offset, offset + bytes.length)
        .equals(bytes)
      seen.push([offset, bytes.length, isSame])
    }
    const expected = [0, 3, 4].map((chunk) => [chunk * MIB, MIB, true])
    assert.deepEqual(seen, [...expected, [5 * MIB, MIB / 2, true]])
  })

  it('is refused if the file is shorter than announced', async () => {
    const path = join(await temporaryFolder(), 'short')
    writeFileSync(path, new Uint8Array(MIB + 4096))
    const fd = openSync(path, 'r')
    cleanups.add(() => closeSync(fd))
    const read = async (): Promise<void> => {
      for await (const { bytes } of readData(fd, 2 * MIB)) assert.equal(bytes.length, MIB)
    }
    const message = /short ends at offset 1052672: it was truncated/
    await assert.rejects(read(), { code: 'ERR_PARKED_DAMAGED', message })
  })
})
