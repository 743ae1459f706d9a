/** RAM blocks that x-ignore-shared has left out of a mapped-ram file of QEMU. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  ftruncateSync,
  openSync,
  closeSync,
  readFileSync,
  truncateSync,
  utimesSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { Park } from '../../src/park/index.js'
import { SavedErrorCode, openSaved } from '../../src/sources/index.js'
import { runInside } from '../cli/inside.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import { checksums, contents, pagesOf, sample } from './samples.js'
import { opened, refuses, save } from './support.js'

const RAM_BYTES = 16 * 2 ** 20
const saved = sample('mr11-ignored')

/** A file with holes, and a page of 0x5a at each of these offsets. */
async function memoryFile(offsets: readonly number[] = [0, 8192]): Promise<string> {
  const path = join(await temporaryFolder(), 'ram')
  const fd = openSync(path, 'w')
  ftruncateSync(fd, RAM_BYTES)
  for (const offset of offsets) writeSync(fd, Buffer.alloc(4096, 0x5a), 0, 4096, offset)
  closeSync(fd)
  return path
}

function invalid(memory: ReadonlyMap<string, string>, message: RegExp): Promise<void> {
  return assert.rejects(openSaved(saved, { memory }), { code: 'ERR_INVALID_BLOCK', message })
}

describe('a RAM block that x-ignore-shared has left out', () => {
  it('has the pages of the file that is named for it; holes are zero', async () => {
    const file = await memoryFile()
    const image = await opened(saved, { memory: new Map([['m', file]]) })
    const block = image.blocks.find(({ name }) => name === 'm')
    assert(block !== undefined)
    assert.deepEqual(
      [...pagesOf(block)].map(({ page }) => page),
      [0, 2],
    )
    const sum = createHash('sha256').update(readFileSync(file)).digest('hex').slice(0, 16)
    assert.equal(checksums(image)['m'], sum)
    // The other blocks are in the saved file.
    assert.equal(checksums(image)['pc.rom'], contents['mr11-plain']?.['pc.rom'])
    // A destination gets all blocks.
    assert(!Buffer.from(image.configuration).includes('x-ignore-shared'))
    assert.equal(image.hasChanged, false)
    utimesSync(file, 1, 1)
    assert.equal(image.hasChanged, true)
  })

  it('is named by the error if there is no file for it', async () => {
    await refuses(
      saved,
      SavedErrorCode.refused,
      /RAM block "m" is not in .*--memory m=FILE.*offset/,
    )
  })

  it('needs a regular file that is long enough', async () => {
    const file = await memoryFile()
    truncateSync(file, RAM_BYTES - 1)
    await invalid(new Map([['m', file]]), /ram has .*, RAM block "m" has 16\.0 MiB/)
    const missing = openSaved(saved, { memory: new Map([['m', `${file}.none`]]) })
    await assert.rejects(missing, { code: 'ENOENT' })
    execFileSync('mkfifo', [`${file}.fifo`])
    const fifo = openSaved(saved, { memory: new Map([['m', `${file}.fifo`]]) })
    await assert.rejects(fifo, { code: 'ERR_FILE_KIND' })
  })

  it('is the only one that takes a file', async () => {
    const file = await memoryFile([])
    const memory = new Map([['m', file]])
    await invalid(new Map([...memory, ['pc.rom', file]]), /has the RAM block "pc\.rom" itself/)
    await invalid(new Map([...memory, ['none', file]]), /has no RAM block "none"/)
    const plain = openSaved(sample('mr11-plain'), { memory: new Map([['none', file]]) })
    await assert.rejects(plain, { code: 'ERR_INVALID_BLOCK' })
  })

  it('is shown by inspect, and parked', async () => {
    const file = await memoryFile()
    const { stdout } = await runInside(['inspect', saved, '--memory', `m=${file}`])
    assert.match(stdout, /│ m +│ 16\.0 MiB +│ 8\.00 KiB +│/)
    const directory = join(dirname(file), 'vm')
    const park = Park.fromFile({ file: saved, memory: new Map([['m', file]]), directory })
    cleanups.add(() => park.close())
    await park.done
    const index = park.manifest?.blocks.findIndex(({ name }) => name === 'm') ?? -1
    assert(readFileSync(join(directory, `ram-${index}`)).equals(readFileSync(file)))
  })

  it('is an option with a block and a file, for a file that is read in place', async () => {
    const wrong = await runInside(['inspect', saved, '--memory', 'm'])
    assert.match(wrong.stderr, /Give a RAM block and its file/)
    const packed = await save(Buffer.from('BZh'))
    const { stderr } = await runInside(['resume', packed, 'unix:/no', '--memory', 'm=x'])
    assert.match(stderr, /--memory is for a mapped-ram file.*\[ERR_USAGE\]/)
    const park = await runInside([
      'park',
      '--from',
      packed,
      '--to',
      `${packed}.vm`,
      '--memory',
      'm=x',
    ])
    assert.match(park.stderr, /only a mapped-ram file.*\[ERR_SAVED_REFUSED\]/)
  })
})
