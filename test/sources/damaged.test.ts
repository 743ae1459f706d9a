/** Files that are cut or changed anywhere: an error that names the file, and nothing left behind. */
import assert from 'node:assert/strict'
import { copyFileSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { memoryUsage } from 'node:process'
import { SavedFileError, type SavedOptions, openSaved } from '../../src/sources/index.js'
import { temporaryFolder } from '../cli/support.js'
import { Random } from '../fuzz/random.js'
import * as short from '../stream/short-stream.js'
import { libvirtImage, mappedRam, ramSection, streamOf } from './short-images.js'
import { qcow2Of } from './short-qcow2.js'
import { sample } from './samples.js'

const CUTS = 200
const MOST_MS = 1000
const MOST_BYTES = 64 * 2 ** 20

/** Opens a file, which may be damaged; undefined if it can be opened all the same. */
async function failureOf(path: string, options: SavedOptions): Promise<SavedFileError | undefined> {
  const start = performance.now()
  try {
    const image = await openSaved(path, options)
    image.close()
    return undefined
  } catch (error) {
    assert(error instanceof SavedFileError, error as Error)
    assert(error.message.startsWith(`${path}: `), error.message)
    assert(performance.now() - start < MOST_MS, `${performance.now() - start} ms`)
    return error
  }
}

/** Demands that a folder has the file alone. An index is made of what can be opened only. */
function demandAlone(path: string): void {
  assert.deepEqual(readdirSync(dirname(path)), ['saved'])
}

describe('a saved VM that is cut', () => {
  for (const [name, options] of [
    ['mr11-plain', {}],
    ['lv-sparse', {}],
    ['st7-exec', {}],
    ['lv-raw', {}],
    ['sv11-2m.qcow2', { snapshot: '2' }],
  ] as const) {
    it(`at any of ${CUTS} places is refused with the offset: ${name}`, async () => {
      const path = join(await temporaryFolder(), 'saved')
      copyFileSync(sample(name), path)
      const index = '/dev/null/no-index'
      const random = new Random(1313)
      const { size } = statSync(path)
      const head = Array.from({ length: CUTS / 4 }, () => 4 + random.below(1000))
      const anywhere = Array.from({ length: (CUTS * 3) / 4 }, () => random.below(size))
      let refused = 0
      for (const cut of [...head, ...anywhere].sort((one, other) => other - one)) {
        truncateSync(path, cut)
        const error = await failureOf(path, { ...options, index })
        // What a snapshot does not need may be missing in an image.
        if (error === undefined) continue
        refused += 1
        assert.match(error.code, /^ERR_SAVED_(TRUNCATED|FORMAT)$/, `${cut}: ${error.message}`)
        assert.match(error.message, /at offset \d+/)
      }
      assert(refused > CUTS / 2, `${refused} refused`)
      demandAlone(path)
    })
  }
})

describe('a saved VM with a changed header', () => {
  const sections = (out: Parameters<typeof short.part>[0]): void => {
    ramSection(out, 'end', [
      [1, 0x11],
      [2, 0x22],
    ])
  }
  const plain = streamOf({ sections })
  const images: readonly [title: string, bytes: Uint8Array, headBytes: number][] = [
    ['a plain stream', plain, 100],
    ['a stream with page sizes', short.precopyStream(2), 240],
    ['a mapped-ram file', mappedRam(), 160],
    ["libvirt's image", libvirtImage(() => plain), 92],
    ['a qcow2 image', qcow2Of({ snapshots: [{ id: '1', name: 'one', state: plain }] }), 104],
  ]
  for (const [title, bytes, headBytes] of images) {
    it(`is refused, or opened, but never more: ${title}`, async () => {
      const path = join(await temporaryFolder(), 'saved')
      const random = new Random(99)
      let refused = 0
      const attempt = async (changed: Uint8Array): Promise<void> => {
        writeFileSync(path, changed)
        if ((await failureOf(path, { index: '/dev/null/no-index' })) !== undefined) refused += 1
      }
      for (let at = 0; at < headBytes; at += 1) {
        const changed = Buffer.from(bytes)
        changed.writeUInt8((changed[at] ?? 0) ^ (1 << random.below(8)), at)
        await attempt(changed)
      }
      assert(refused > headBytes / 5, `${refused} refused`)
      demandAlone(path)
    })

    it(`takes no memory for lengths of 2^63 and 2^31: ${title}`, async () => {
      const path = join(await temporaryFolder(), 'saved')
      const before = memoryUsage().arrayBuffers
      for (let at = 0; at + 8 <= headBytes; at += 1) {
        for (const value of [2n ** 63n, 2n ** 31n]) {
          const changed = Buffer.from(bytes)
          changed.writeBigUInt64BE(value, at)
          writeFileSync(path, changed)
          await failureOf(path, { index: '/dev/null/no-index' })
          assert(memoryUsage().arrayBuffers - before < MOST_BYTES, `at ${at}`)
        }
      }
      demandAlone(path)
    })
  }
})
