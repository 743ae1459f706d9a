import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import type { PostcopyError } from '../../src/errors.js'
import { decodeIndex, encodeIndex } from '../../src/sources/index-file.js'
import { ramSection, streamOf } from './short-images.js'
import { bytesOf, opened, save } from './support.js'

function streamWith(byte: number): Uint8Array {
  return streamOf({ sections: (out) => ramSection(out, 'end', [[1, byte]]) })
}

async function stateOf(path: string, index?: string): Promise<string | undefined> {
  return (await opened(path, index === undefined ? {} : { index })).index?.state
}

describe('the index of a stream', () => {
  it('is kept beside the file, readable by its owner only, and saves the pass', async () => {
    const path = await save(streamWith(0x11))
    assert.equal(await stateOf(path), 'made')
    assert.equal(statSync(`${path}.postcopy-index`).mode & 0o777, 0o600)
    const again = await opened(path)
    assert.equal(again.index?.state, 'used')
    assert.deepEqual(bytesOf(again), { 1: 0x11 })
    assert.deepEqual(readdirSync(dirname(path)).sort(), ['saved', 'saved.postcopy-index'])
  })

  it('is used instead of the records, which are not read then', async () => {
    const pages = Array.from({ length: 700 }, (_, page) => [page, 0x11] as const)
    const bytes = streamOf({ pages: 700, sections: (out) => ramSection(out, 'end', pages) })
    const path = await save(bytes)
    const time = new Date(1_700_000_000_000)
    utimesSync(path, time, time)
    assert.equal(await stateOf(path), 'made')
    // The flags of a record that no sample contains.
    const [block] = (await opened(path)).blocks
    const changed = Buffer.from(bytes)
    changed.writeUInt8(0xff, (block?.runs[3] ?? 0) + 310 * 4104 - 1)
    writeFileSync(path, changed)
    utimesSync(path, time, time)
    assert.equal(await stateOf(path), 'used')
    const elsewhere = `${path}-2`
    await assert.rejects(stateOf(path, elsewhere), { code: 'ERR_SAVED_REFUSED' })
  })

  it('keeps whether the whole file is a plain stream', async () => {
    const sections = (out: Parameters<typeof ramSection>[0]): void => {
      ramSection(out, 'part', [[1, 0x11]])
    }
    const files: readonly [bytes: Uint8Array, isPlain: boolean][] = [
      [streamWith(0x11), true],
      [Buffer.concat([streamWith(0x11), Buffer.from('x')]), false],
      [streamOf({ sections }), false],
    ]
    for (const [bytes, isPlain] of files) {
      const path = await save(bytes)
      assert.equal((await opened(path)).isPlainStream, isPlain)
      const again = await opened(path)
      assert.deepEqual([again.index?.state, again.isPlainStream], ['used', isPlain])
    }
  })

  it('may be kept elsewhere, and is written where its name has blanks and quotes', async () => {
    const path = await save(streamWith(0x11))
    const elsewhere = join(dirname(path), 'an "index"\n of it')
    assert.equal(await stateOf(path, elsewhere), 'made')
    assert.equal(await stateOf(path, elsewhere), 'used')
    assert.equal(readdirSync(dirname(path)).length, 2)
  })

  it('is made again for a file of another length or time, or with other samples', async () => {
    const path = await save(streamWith(0x11))
    await stateOf(path)
    const { atime, mtime } = statSync(path)
    utimesSync(path, atime, new Date(mtime.getTime() + 1000))
    assert.equal(await stateOf(path), 'made')
    appendFileSync(path, 'x')
    assert.equal(await stateOf(path), 'made')
    const times = statSync(path)
    const whole = new Date(Math.floor(times.mtimeMs))
    utimesSync(path, times.atime, whole)
    await stateOf(path)
    writeFileSync(path, Buffer.concat([streamWith(0x99), Buffer.from('x')]))
    utimesSync(path, times.atime, whole)
    const image = await opened(path)
    assert.equal(image.index?.state, 'made')
    assert.deepEqual(bytesOf(image), { 1: 0x99 })
  })

  it('is made again if it is damaged at any byte', async () => {
    const path = await save(streamWith(0x11))
    await stateOf(path)
    const file = `${path}.postcopy-index`
    const good = readFileSync(file)
    for (let at = 0; at < good.length; at += 7) {
      const bad = Buffer.from(good)
      bad.writeUInt8((good[at] ?? 0) ^ 0x10, at)
      assert.throws(() => decodeIndex(bad), { code: 'ERR_SAVED_INDEX' })
      assert.throws(() => decodeIndex(good.subarray(0, at)), { code: 'ERR_SAVED_INDEX' })
    }
    writeFileSync(file, good.subarray(0, 100))
    assert.equal(await stateOf(path), 'made')
    assert.deepEqual(readFileSync(file), good)
  })

  it('is refused if its rows lead out of the block or the file', async () => {
    const path = await save(streamWith(0x11))
    await stateOf(path)
    const { fields } = decodeIndex(readFileSync(`${path}.postcopy-index`))
    const wrong = [
      [8, 1, 0],
      [7, 2, 0],
      [0, 0, 0],
      [0, 1, -1],
      [0, 1, 2 ** 40],
      [0.5, 1, 0],
      [0, NaN, 0],
    ]
    for (const row of wrong) {
      const bytes = encodeIndex({ fields, rows: [Float64Array.from(row)] })
      assert.throws(() => decodeIndex(bytes), /damaged: a row/)
    }
    const fine = encodeIndex({ fields, rows: [Float64Array.from([7, 1, 100])] })
    assert.deepEqual([...(decodeIndex(fine).rows[0] ?? [])], [7, 1, 100])
  })

  it('is not used if other users can write it, or if it is a link', async () => {
    const path = await save(streamWith(0x11))
    await stateOf(path)
    const file = `${path}.postcopy-index`
    chmodSync(file, 0o666)
    assert.equal(await stateOf(path), 'made')
    assert.equal(await stateOf(path), 'used')
    const other = await save(streamWith(0x11))
    const link = join(dirname(other), 'link')
    copyFileSync(file, join(dirname(other), 'target'))
    symlinkSync(join(dirname(other), 'target'), link)
    await assert.rejects(stateOf(other, link), { code: 'ERR_FILE_EXISTS' })
    assert.equal(lstatSync(link).isSymbolicLink(), true)
  })

  it('that cannot be written is no error: it says why', async () => {
    const path = await save(streamWith(0x11))
    const file = join(dirname(path), 'no', 'index')
    const image = await opened(path, { index: file })
    assert.deepEqual(image.index, { file, state: 'not-kept', reason: 'ENOENT' })
    assert.deepEqual(bytesOf(image), { 1: 0x11 })
    assert.deepEqual(readdirSync(dirname(path)), ['saved'])
  })

  it('never replaces a file that the user has named and that is not an index', async () => {
    const path = await save(streamWith(0x11))
    const [text, empty, folder, fifo, link] = ['text', 'empty', 'folder', 'fifo', 'link'].map(
      (name) => join(dirname(path), name),
    ) as [string, string, string, string, string]
    writeFileSync(text, 'postcopy notes')
    writeFileSync(empty, '')
    mkdirSync(folder)
    execFileSync('mkfifo', [fifo])
    symlinkSync('/dev/null', link)
    for (const file of [path, text, empty, folder, fifo, link, '/dev/null']) {
      const { ino, size } = lstatSync(file)
      await assert.rejects(stateOf(path, file), (error: PostcopyError) => {
        assert.equal(error.code, 'ERR_FILE_EXISTS')
        assert.match(error.message, /exists and is not an? .*: choose another file for the index/)
        return true
      })
      assert.deepEqual([lstatSync(file).ino, lstatSync(file).size], [ino, size], file)
    }
    assert.equal(await stateOf(path), 'made')
  })

  it('is not kept if another file has its name beside the stream, and says so', async () => {
    const path = await save(streamWith(0x11))
    const file = `${path}.postcopy-index`
    writeFileSync(file, 'notes')
    const image = await opened(path)
    const reason = 'it exists and is not an index'
    assert.deepEqual(image.index, { file, state: 'not-kept', reason })
    assert.deepEqual(bytesOf(image), { 1: 0x11 })
    assert.equal(readFileSync(file, 'utf8'), 'notes')
  })
})
