/** Compressed files, unpacked once into a directory. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { type UnpackOptions, type UnpackedVm, openUnpacked } from '../../src/park/index.js'
import type { Compression } from '../../src/sources/index.js'
import { unpacked } from '../../src/sources/unpack.js'
import { libvirtImage, ramSection, streamOf } from '../sources/short-images.js'
import { save } from '../sources/support.js'
import { cleanups } from '../support/cleanup.js'
import { fakeProgram } from '../support/fake-program.js'
import { requires } from '../support/requires.js'

/** A VM whose only page with data is filled with `byte`. */
function plain(byte: number): Uint8Array {
  return streamOf({ sections: (out) => ramSection(out, 'end', [[1, byte]]) })
}

/** Of the same length for each byte. */
function packed(byte = 0x11): Buffer {
  return gzipSync(plain(byte), { level: 0 })
}

/** Begins as xz does, for programs that only pretend to unpack. */
const xz = Buffer.from('\xfd7zXZ\0 and more', 'latin1')

/** Opens until the end of the test. */
async function open(file: string, options: UnpackOptions = {}): Promise<UnpackedVm> {
  const found = await openUnpacked(file, options)
  cleanups.add(() => found.vm.close())
  return found
}

/** The byte of page 1. */
function byteIn(directory: string): number | undefined {
  return readFileSync(join(directory, 'ram-0'))[4096]
}

function beside(file: string): string[] {
  return readdirSync(dirname(file)).sort()
}

/** Writes other bytes, at the same time. */
function rewrite(file: string, bytes: Uint8Array): void {
  const { atime, mtime } = statSync(file)
  writeFileSync(file, bytes)
  utimesSync(file, atime, mtime)
}

describe('the directory of a compressed file', () => {
  it('is made once beside it, and opened the next time', async () => {
    const file = await save(packed())
    const first = await open(file)
    assert.deepEqual([first.wasUnpacked, first.vm.directory], [true, `${file}.parked`])
    // Without gzip.
    await fakeProgram('gzip', 'exit 1')
    const second = await open(file, { verify: true })
    assert.deepEqual([second.wasUnpacked, second.vm.directory], [false, `${file}.parked`])
    assert.equal(byteIn(second.vm.directory), 0x11)
    assert.deepEqual(beside(file), ['saved', 'saved.parked'])
    assert.equal(statSync(`${file}.parked`).mode & 0o777, 0o700)
  })

  it('has the VM of an image of libvirt at an offset, and may be elsewhere', async () => {
    const image = libvirtImage(() => packed(0x22), { format: 1 })
    const file = await save(Buffer.concat([new Uint8Array(512), image]))
    const cache = join(dirname(file), 'elsewhere')
    const { vm } = await open(file, { offset: 512, cache })
    assert.deepEqual([vm.directory, byteIn(cache)], [cache, 0x22])
    // Without a default directory.
    assert.deepEqual(beside(file), ['elsewhere', 'saved'])
  })

  const changes: readonly [title: string, act: (file: string) => void][] = [
    ['the time', (file) => utimesSync(file, 1, 1)],
    ['the length', (file) => rewrite(file, Buffer.concat([packed(), gzipSync('')]))],
    ['bytes, at the same time', (file) => rewrite(file, packed(0x22))],
  ]
  for (const [what, act] of changes) {
    it(`is made again after a change of ${what} of the file`, async () => {
      const file = await save(packed())
      utimesSync(file, 5, 5)
      await open(file)
      act(file)
      const { wasUnpacked, vm } = await open(file)
      assert(wasUnpacked)
      assert.equal(byteIn(vm.directory), what.startsWith('bytes') ? 0x22 : 0x11)
      assert.deepEqual(beside(file), ['saved', 'saved.parked'])
    })
  }

  it('is made again for another offset, and if it is damaged', async () => {
    const bytes = packed()
    const file = await save(Buffer.concat([bytes, packed(0x22)]))
    const cache = `${file}.vm`
    const offset = bytes.length
    assert.equal(byteIn((await open(file, { cache, offset })).vm.directory), 0x22)
    truncateSync(join(cache, 'ram-0'), 4096)
    assert((await open(file, { cache, offset })).wasUnpacked)
    // Not the VM at the other offset; this one has bytes of another stream after its end.
    await assert.rejects(open(file, { cache }), { code: 'ERR_STREAM_ELEMENT' })
  })

  it('stays as it was until the new one is complete', async () => {
    const file = await save(packed())
    await open(file)
    rewrite(file, packed(0x22).subarray(0, -20))
    await assert.rejects(open(file), {
      code: 'ERR_SAVED_UNPACK',
      message: /gzip cannot unpack it: gzip: .*unexpected end/,
    })
    assert.equal(byteIn(`${file}.parked`), 0x11)
    assert.deepEqual(beside(file), ['saved', 'saved.parked'])
    // And is not opened for the other file.
    await assert.rejects(open(file), { code: 'ERR_SAVED_UNPACK' })
  })

  const foreign: readonly [title: string, make: (cache: string) => void][] = [
    ['a parked VM', (cache) => mkdirSync(cache)],
    ['a file', (cache) => writeFileSync(cache, 'mine')],
    [
      'a directory whose stamp is damaged',
      (cache) => {
        mkdirSync(cache)
        writeFileSync(join(cache, 'unpacked-from.json'), '{"format":"postcopy-unpacked"}')
      },
    ],
  ]
  for (const [title, make] of foreign) {
    it(`does not take the place of ${title} that has its name`, async () => {
      const file = await save(packed())
      for (const name of ['saved.parked', 'saved.parked.replaced']) {
        const path = join(dirname(file), name)
        make(path)
        const { ino } = statSync(path)
        await assert.rejects(open(file), { code: 'ERR_CACHE_FOREIGN', message: /--cache/ })
        assert.equal(statSync(path).ino, ino)
        assert.deepEqual(beside(file), ['saved', name])
        renameSync(path, join(dirname(dirname(file)), `${process.pid}-${ino}`))
        cleanups.add(() =>
          execFileSync('rm', ['-r', join(dirname(dirname(file)), `${process.pid}-${ino}`)]),
        )
      }
    })
  }

  it('is not kept if the file changes while it is unpacked', async () => {
    const file = await save(packed())
    await fakeProgram('gzip', `PATH=\${PATH#*:}; touch -d @7 '${file}'; exec gzip "$@"`)
    await assert.rejects(open(file), { code: 'ERR_SAVED_CHANGED' })
    assert.deepEqual(beside(file), ['saved'])
  })

  it('is not left half-made by an abort, also while the program is silent', async () => {
    const file = await save(xz)
    const pidFile = `${file}.pid`
    await fakeProgram('xz', `echo $$ > '${pidFile}'; sleep 100 & wait`)
    const stop = new AbortController()
    const opening = open(file, { signal: stop.signal })
    const ended = assert.rejects(opening, (error) => error === stop.signal.reason)
    while (!existsSync(pidFile) || readFileSync(pidFile).length === 0) await sleep(10)
    stop.abort(new Error('enough'))
    await ended
    assert.deepEqual(beside(file), ['saved', 'saved.pid'])
    const pid = Number(readFileSync(pidFile, 'utf8'))
    assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
    await assert.rejects(open(file, { signal: stop.signal }), { message: 'enough' })
  })

  it('is needed for a pipe, and must not exist then', async () => {
    await assert.rejects(open('-'), { code: 'ERR_USAGE', message: /standard input.*--cache DIR/ })
    const file = await save(plain(0x44))
    const fifo = `${file}.fifo`
    execFileSync('mkfifo', [fifo])
    await assert.rejects(open(fifo), { code: 'ERR_USAGE', message: /fifo.*--cache DIR/ })
    const cache = `${file}.vm`
    const opening = open(fifo, { cache })
    execFileSync('sh', ['-c', `cat '${file}' > '${fifo}'`])
    const { vm, wasUnpacked } = await opening
    assert.deepEqual([wasUnpacked, byteIn(vm.directory)], [true, 0x44])
    await assert.rejects(open(fifo, { cache }), { code: 'ERR_PARKED_EXISTS' })
  })
})

describe('a compressed stream', () => {
  for (const program of ['zstd', 'xz', 'bzip2', 'lzop'] as const satisfies Compression[]) {
    it(`is unpacked by ${program}`, async function () {
      // Only the program itself writes its format.
      requires(this, program)
      const { stdout } = spawnSync(program, ['-c'], { input: plain(0x33) })
      const pieces: Uint8Array[] = []
      for await (const piece of unpacked(await save(stdout), 0, program)) pieces.push(piece)
      assert(Buffer.concat(pieces).equals(plain(0x33)))
    })
  }

  const failures: readonly [title: string, script: string, message: RegExp][] = [
    ['its words', 'echo "xz: no space" >&2; exit 3', /xz cannot unpack it: xz: no space/],
    ['its status, without words', 'exit 3', /xz cannot unpack it: it ended with 3, without/],
    ['the signal that ended it', 'kill -9 $$', /xz cannot unpack it: it ended with SIGKILL/],
  ]
  for (const [title, script, message] of failures) {
    it(`that its program refuses is an error with ${title}`, async () => {
      await fakeProgram('xz', script)
      const file = await save(xz)
      const reading = unpacked(file, 0, 'xz').next()
      await assert.rejects(reading, { code: 'ERR_SAVED_UNPACK', message })
    })
  }
})
