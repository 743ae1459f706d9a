/** Saved files: streams, mapped-ram files, libvirt's images, qcow2 images, indexes. */
import { createHash } from 'node:crypto'
import { PostcopyError } from '../../../src/errors.js'
import { Cursor } from '../../../src/sources/cursor.js'
import type { ByteSource } from '../../../src/sources/file-bytes.js'
import { decodeIndex, encodeIndex } from '../../../src/sources/index-file.js'
import { readLibvirtImage } from '../../../src/sources/libvirt.js'
import { Scratch, stateRuns } from '../../../src/sources/page-runs.js'
import { readQcow2Header } from '../../../src/sources/qcow2-header.js'
import { chooseSnapshot, readSnapshots } from '../../../src/sources/qcow2-snapshots.js'
import { Qcow2State } from '../../../src/sources/qcow2-state.js'
import { recognizeBytes } from '../../../src/sources/recognize.js'
import { runStateOf } from '../../../src/sources/run-state.js'
import { SavedFileError } from '../../../src/sources/saved-error.js'
import { readBody } from '../../../src/sources/stream-body.js'
import { type StreamHead, readHead } from '../../../src/sources/stream-head.js'
import { libvirtImage, mappedRam, ramSection, streamOf } from '../../sources/short-images.js'
import { qcow2Of } from '../../sources/short-qcow2.js'
import * as short from '../../stream/short-stream.js'
import { boundedAsync } from '../bounded.js'
import { type Target, demand } from '../target.js'

const PATH = 'fuzzed'

/** A file in memory. */
class Bytes implements ByteSource {
  readonly path = PATH
  readonly inside = undefined
  readonly endOffset: number
  readonly allocatedBytes: number
  readonly #bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.endOffset = bytes.length
    this.allocatedBytes = bytes.length
  }

  read(target: Uint8Array, offset: number): Promise<number> {
    demand(Number.isSafeInteger(offset) && offset >= 0, `a read at ${offset}`)
    const piece = this.#bytes.subarray(offset, offset + target.length)
    target.set(piece)
    return Promise.resolve(piece.length)
  }
}

/** Runs a reader: its errors name the file, and an offset in what is read. */
async function answerOf(
  input: Uint8Array,
  read: (file: Bytes) => Promise<string>,
): Promise<string> {
  return boundedAsync(input.length, async () => {
    try {
      return await read(new Bytes(input))
    } catch (error) {
      if (!(error instanceof SavedFileError)) throw error
      demand(error.message.startsWith(`${PATH}: `), error.message)
      const { fileOffset } = error
      demand(fileOffset === undefined || fileOffset >= 0, `an error at ${String(fileOffset)}`)
      return error.code
    }
  })
}

async function readStream(source: ByteSource, begin: number): Promise<string> {
  const cursor = new Cursor(source, begin)
  const head = await readHead(cursor)
  const body = await readBody(cursor, head)
  for (const [index, { rows, data }] of body.pages.entries()) {
    checkRows(rows, (head.blocks[index]?.lengthBytes ?? 0) / 4096, source.endOffset)
    demand(data.pageCount * 4096 === head.blocks[index]?.lengthBytes, 'a bitmap of another size')
  }
  checkMapped(head, source.endOffset)
  demand(body.devices.length <= source.endOffset, 'more devices than bytes')
  return `${head.isMappedRam} ${body.pages.length} ${runStateOf(body.devices) === undefined}`
}

function checkRows(rows: Float64Array, pageCount: number, endOffset: number): void {
  let next = 0
  for (let at = 0; at < rows.length; at += 3) {
    const [first = 0, count = 0, offset = 0] = rows.subarray(at)
    demand(first >= next && count > 0 && first + count <= pageCount, `pages ${first} + ${count}`)
    demand(offset > 0 && offset + (count - 1) * 4104 + 4096 <= endOffset, `pages at ${offset}`)
    next = first + count
  }
}

function checkMapped({ blocks }: StreamHead, endOffset: number): void {
  for (const { lengthBytes, mapped } of blocks) {
    if (mapped === undefined) continue
    const last = mapped.data.count(0, lengthBytes / 4096)
    demand(last <= lengthBytes / 4096, 'more pages than the block has')
    demand(mapped.pagesOffset + lengthBytes <= endOffset, 'pages outside the file')
  }
}

const small = streamOf({
  sections: (out) =>
    ramSection(out, 'end', [
      [1, undefined],
      [2, undefined],
    ]),
})
const paged = streamOf({
  sections: (out) => {
    ramSection(out, 'part', [
      [1, 0x11],
      [2, undefined],
    ])
    ramSection(out, 'end', [[1, undefined]])
  },
})

const tokens = ['QEVM', 'ram', 'mapped-ram', 'x-ignore-shared', '~\0\0\0\x02', '\0\x06'].map(
  (text) => Buffer.from(text, 'latin1'),
)

export const savedStream: Target = {
  seeds: [small, paged, short.precopyStream(), mappedRam({ pages: [undefined] }), mappedRam()],
  tokens,
  maxBytes: 16_000,
  run: (input) => answerOf(input, async (file) => readStream(file, 0)),
}

export const savedLibvirt: Target = {
  seeds: [
    libvirtImage(() => small),
    libvirtImage(() => small, { isLittle: false, wasRunning: 0 }),
    libvirtImage(() => small, { format: 5 }),
  ],
  tokens: [
    ...tokens,
    ...['LibvirtQemudSave', '<name>', '</uuid>'].map((text) => Buffer.from(text)),
  ],
  maxBytes: 2000,
  run: (input) =>
    answerOf(input, async (file) => {
      const format = await recognizeBytes(file, 0)
      if (format !== 'libvirt') return format
      const image = await readLibvirtImage(new Cursor(file, 0))
      demand(image.payloadOffset <= file.endOffset, 'a payload outside the file')
      return `${image.format} ${await readStream(file, image.payloadOffset)}`
    }),
}

export const savedQcow2: Target = {
  seeds: [
    qcow2Of({ snapshots: [{ id: '1', name: 'one', state: small }] }),
    qcow2Of({ version: 2, snapshots: [{ id: '1', name: 'a', state: small, gapsBefore: [1] }] }),
    qcow2Of({
      clusterBits: 12,
      hasExtendedL2: true,
      snapshots: [{ id: '1', name: 'one', state: paged, gapsBefore: [1] }],
    }),
  ],
  tokens,
  maxBytes: 64_000,
  run: (input) =>
    answerOf(input, async (file) => {
      const cursor = new Cursor(file, 0)
      const header = await readQcow2Header(cursor)
      const snapshot = chooseSnapshot(PATH, await readSnapshots(cursor, header), undefined)
      const state = await Qcow2State.open(file, header, snapshot)
      const answer = await readStream(state, 0)
      await checkRuns(state, file.endOffset)
      return answer
    }),
}

/** Pages at any offset of a state are in the file, or in memory. */
async function checkRuns(state: Qcow2State, endOffset: number): Promise<void> {
  const scratch = new Scratch()
  try {
    const count = Math.floor(state.endOffset / 4104)
    if (count === 0) return
    const runs = await stateRuns(Float64Array.of(0, count, 8), state, scratch)
    for (let at = 0; at < runs.length; at += 5) {
      const [, pages = 0, fd = 0, offset = 0, stride = 0] = runs.subarray(at)
      demand(fd !== 0 || offset + (pages - 1) * stride + 4096 <= endOffset, `a run at ${offset}`)
    }
  } finally {
    scratch.close()
  }
}

const index = encodeIndex({
  fields: {
    fileBytes: 100_000,
    modifiedNs: '17',
    endOffset: 100_000,
    samples: [{ offset: 0, sha256: 'a' }],
    devices: { offset: 50_000, lengthBytes: 100, sha256: 'b' },
    descriptionBytes: 10,
    isPlain: true,
    blocks: [{ name: 'm', lengthBytes: 32_768, rowCount: 2 }],
  },
  rows: [Float64Array.of(0, 2, 100, 5, 1, 20_000)],
})

function withDigest(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([bytes, createHash('sha256').update(bytes).digest()])
}

/** The checksum is made to fit, so that the fields after it are reached. */
export const savedIndex: Target = {
  seeds: [index.subarray(0, -32)],
  tokens: ['null', '{}', '[]', '1e300', '-1', '"rowCount":', 'NaN'].map((text) =>
    Buffer.from(text),
  ),
  maxBytes: 2000,
  run: (input) =>
    boundedAsync(input.length, () => {
      try {
        const { fields, rows } = decodeIndex(withDigest(input))
        for (const [at, block] of fields.blocks.entries()) {
          checkRows(rows[at] ?? new Float64Array(0), block.lengthBytes / 4096, fields.endOffset)
        }
        return Promise.resolve(`${fields.blocks.length} ${rows.length}`)
      } catch (error) {
        if (!(error instanceof PostcopyError)) throw error
        return Promise.resolve(error.message.slice(0, 40))
      }
    }),
}
