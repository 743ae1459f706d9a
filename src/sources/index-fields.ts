/** The fields of an index: what it is an index of, and where the devices are. */
import { PostcopyError } from '../errors.js'
import type { FileStamp } from './file-stamp.js'
import { isJsonObject } from '../stream/internal.js'

export interface IndexFields extends FileStamp {
  /** Of the stream: that of the file, or of the state in a snapshot. */
  readonly endOffset: number
  readonly devices: {
    readonly offset: number
    readonly lengthBytes: number
    readonly sha256: string
  }
  /** Length of the description after the devices; 0: none. */
  readonly descriptionBytes: number
  /** Whether the stream has an END of `ram`, and nothing follows it. */
  readonly isPlain: boolean
  readonly blocks: readonly {
    readonly name: string
    readonly lengthBytes: number
    readonly rowCount: number
  }[]
}

/** @throws PostcopyError `ERR_SAVED_INDEX` */
export function parseIndexFields(text: string): IndexFields {
  if (!isJsonObject(Buffer.from(text))) throw bad('JSON')
  const fields = recordOf(JSON.parse(text), 'fields')
  const devices = recordOf(fields['devices'], 'devices')
  return {
    fileBytes: countOf(fields, 'fileBytes'),
    modifiedNs: textOf(fields, 'modifiedNs'),
    endOffset: countOf(fields, 'endOffset'),
    samples: listOf(fields, 'samples').map((sample) => ({
      offset: countOf(sample, 'offset'),
      sha256: textOf(sample, 'sha256'),
    })),
    devices: {
      offset: countOf(devices, 'offset'),
      lengthBytes: countOf(devices, 'lengthBytes'),
      sha256: textOf(devices, 'sha256'),
    },
    descriptionBytes: countOf(fields, 'descriptionBytes'),
    isPlain: flagOf(fields, 'isPlain'),
    blocks: listOf(fields, 'blocks').map((block) => ({
      name: textOf(block, 'name'),
      lengthBytes: countOf(block, 'lengthBytes'),
      rowCount: countOf(block, 'rowCount'),
    })),
  }
}

type Fields = Readonly<Record<string, unknown>>

function recordOf(value: unknown, name: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad(name)
  return value as Fields
}

function listOf(fields: Fields, name: string): Fields[] {
  const value = fields[name]
  if (!Array.isArray(value)) throw bad(name)
  return value.map((entry) => recordOf(entry, name))
}

function countOf(fields: Fields, name: string): number {
  const value = fields[name]
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw bad(name)
  return value
}

function flagOf(fields: Fields, name: string): boolean {
  const value = fields[name]
  if (typeof value !== 'boolean') throw bad(name)
  return value
}

function textOf(fields: Fields, name: string): string {
  const value = fields[name]
  if (typeof value !== 'string') throw bad(name)
  return value
}

function bad(field: string): PostcopyError {
  return new PostcopyError('ERR_SAVED_INDEX', `the index is damaged: its ${field}`)
}
