/** The body of a plain stream, by its index where that fits, or by a pass over the stream. */
import type { ByteSource, FileBytes } from './file-bytes.js'
import type { Cursor } from './cursor.js'
import { type StreamIndex, readIndex, writeIndex } from './index-file.js'
import { bitmapOf } from './page-table.js'
import { PostcopyError } from '../errors.js'
import { stampFits, stampOf } from './file-stamp.js'
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

/**
 * @param cursor - after the block list
 * @throws SavedFileError
 */
export async function readIndexedBody(
  cursor: Cursor,
  head: StreamHead,
  file: FileBytes,
  indexFile: string,
): Promise<{ body: StreamBody; index: IndexReport }> {
  const known = await readIndex(indexFile)
  if (known !== undefined) {
    const body = await bodyByIndex(cursor, head, file, known)
    if (body !== undefined) return { body, index: { file: indexFile, state: 'used' } }
  }
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
  const { devices, descriptionBytes, blocks } = fields
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
      return { rows: one, data: await bitmapOf(one, lengthBytes / 4096) }
    }),
  )
  return {
    pages,
    devicesOffset: devices.offset,
    devices: state,
    description: descriptionBytes === 0 ? undefined : text,
  }
}

async function indexOf(
  body: StreamBody,
  head: StreamHead,
  source: ByteSource,
  file: FileBytes,
): Promise<StreamIndex> {
  const { devices, devicesOffset, description, pages } = body
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
      blocks: head.blocks.map(({ name, lengthBytes }, index) => ({
        name,
        lengthBytes,
        rowCount: (pages[index]?.rows.length ?? 0) / 3,
      })),
    },
    rows: pages.map(({ rows }) => rows),
  }
}

/** @returns why it was not kept */
async function keepIndex(file: string, index: StreamIndex): Promise<string | undefined> {
  try {
    await writeIndex(file, index)
    return undefined
  } catch (error) {
    if (error instanceof PostcopyError) throw error
    return (error as NodeJS.ErrnoException).code ?? String(error)
  }
}
