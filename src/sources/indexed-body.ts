/** The body of a plain stream, by its index where that fits, or by a pass over the stream. */
import { PostcopyError } from '../errors.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import type { ByteSource, FileBytes } from './file-bytes.js'
import type { Cursor } from './cursor.js'
import { stampFits, stampOf } from './file-stamp.js'
import { type StreamIndex, findObstacle, readIndex, writeIndex } from './index-file.js'
import { PageRow, bitmapOf } from './page-table.js'
import { digestOf } from './samples.js'
import {
  MOST_DESCRIPTION_BYTES,
  MOST_DEVICE_BYTES,
  type StreamBody,
  readBody,
} from './stream-body.js'
import type { StreamHead } from './stream-head.js'

/** EOF, type and length before the text of a description. */
const DESCRIPTION_HEAD_BYTES = 6

/** What became of the index. */
export interface IndexReport {
  readonly file: string
  /**
   * `used`: no pass was needed. `made`: by a pass, and written. `not-kept`: it could not be written,
   * so the next time needs a pass again.
   */
  readonly state: 'used' | 'made' | 'not-kept'
  /** Why it was not kept. */
  readonly reason?: string
}

/** Where an index belongs. */
export interface IndexPlace {
  readonly file: string
  /** Whether the user has named the file. */
  readonly isNamed: boolean
}

/**
 * @param cursor - after the block list
 * @throws SavedFileError; PostcopyError `ERR_FILE_EXISTS` if the user has named a file that is no index
 */
export async function readIndexedBody(
  cursor: Cursor,
  head: StreamHead,
  file: FileBytes,
  { file: indexFile, isNamed }: IndexPlace,
): Promise<{ body: StreamBody; index: IndexReport }> {
  const known = await readIndex(indexFile)
  if (known !== undefined) {
    const body = await bodyByIndex(cursor, head, file, known)
    if (body !== undefined) return { body, index: { file: indexFile, state: 'used' } }
  }
  if (isNamed) await checkName(indexFile)
  const body = await readBody(cursor, head)
  const reason = await keepIndex(indexFile, await indexOf(body, head, cursor.source, file))
  if (reason === undefined) return { body, index: { file: indexFile, state: 'made' } }
  return { body, index: { file: indexFile, state: 'not-kept', reason } }
}

/** @returns undefined if the index is that of another stream */
async function bodyByIndex(
  cursor: Cursor,
  head: StreamHead,
  file: FileBytes,
  { fields, rows }: StreamIndex,
): Promise<StreamBody | undefined> {
  const { source } = cursor
  const { devices, descriptionBytes, isPlain, blocks } = fields
  const isSame =
    fields.endOffset === source.endOffset &&
    blocks.length === head.blocks.length &&
    head.blocks.every(({ name, lengthBytes }, index) => {
      return blocks[index]?.name === name && blocks[index].lengthBytes === lengthBytes
    })
  const isBounded =
    devices.lengthBytes <= MOST_DEVICE_BYTES && descriptionBytes <= MOST_DESCRIPTION_BYTES
  if (!isSame || !isBounded || !(await stampFits(fields, file, source))) return undefined
  const state = new Uint8Array(devices.lengthBytes)
  const isWhole = (await source.read(state, devices.offset)) === state.length
  // The state of the devices differs with each time that a VM is saved.
  if (!isWhole || digestOf(state) !== devices.sha256) return undefined
  const text = new Uint8Array(descriptionBytes)
  const textAt = devices.offset + devices.lengthBytes + DESCRIPTION_HEAD_BYTES
  if ((await source.read(text, textAt)) < descriptionBytes) return undefined
  const pages = await Promise.all(
    rows.map(async (one, index) => {
      const lengthBytes = head.blocks[index]?.lengthBytes ?? 0
      return { rows: one, data: await bitmapOf(one, lengthBytes / TARGET_PAGE_SIZE) }
    }),
  )
  return {
    pages,
    devicesOffset: devices.offset,
    devices: state,
    description: descriptionBytes === 0 ? undefined : text,
    isPlain,
  }
}

async function indexOf(
  body: StreamBody,
  head: StreamHead,
  source: ByteSource,
  file: FileBytes,
): Promise<StreamIndex> {
  const { devices, devicesOffset, description, isPlain, pages } = body
  return {
    fields: {
      ...(await stampOf(file, source)),
      endOffset: source.endOffset,
      devices: {
        offset: devicesOffset,
        lengthBytes: devices.length,
        sha256: digestOf(devices),
      },
      descriptionBytes: description?.length ?? 0,
      isPlain,
      blocks: head.blocks.map(({ name, lengthBytes }, index) => ({
        name,
        lengthBytes,
        rowCount: (pages[index]?.rows.length ?? 0) / PageRow.stride,
      })),
    },
    rows: pages.map(({ rows }) => rows),
  }
}

/** Before the pass, which may take minutes. */
async function checkName(file: string): Promise<void> {
  const reason = await findObstacle(file)
  if (reason?.startsWith('it exists') !== true) return
  const advice = 'choose another file for the index, or remove this one'
  throw new PostcopyError('ERR_FILE_EXISTS', `${file}: ${reason}: ${advice}`)
}

/** @returns why it was not kept */
async function keepIndex(file: string, index: StreamIndex): Promise<string | undefined> {
  try {
    const obstacle = await findObstacle(file)
    if (obstacle === undefined) await writeIndex(file, index)
    return obstacle
  } catch (error) {
    if (error instanceof PostcopyError) throw error
    return (error as NodeJS.ErrnoException).code ?? String(error)
  }
}
