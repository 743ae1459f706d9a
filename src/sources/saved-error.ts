/** Errors of saved files. Each names the file, the offset and the field. */
import { PostcopyError, StreamError } from '../errors.js'

/** Codes of a {@link SavedFileError}. */
export const SavedErrorCode = {
  /** The file is not a saved VM. */
  format: 'ERR_SAVED_FORMAT',
  /** The file ends inside a field, a page or a section. */
  truncated: 'ERR_SAVED_TRUNCATED',
  /** A field has a value that no saved VM has. */
  damaged: 'ERR_SAVED_DAMAGED',
  /** A saved VM of a kind that cannot be resumed; the message says what to do. */
  refused: 'ERR_SAVED_REFUSED',
  /** There is no such snapshot, or the choice between several is missing. */
  snapshot: 'ERR_SAVED_SNAPSHOT',
  /** A program that unpacks the file is missing, or has failed. */
  unpack: 'ERR_SAVED_UNPACK',
  /** The file has changed while it was unpacked. */
  changed: 'ERR_SAVED_CHANGED',
} as const

export type SavedErrorKind = keyof typeof SavedErrorCode

/** A file that cannot be read as a saved VM. */
export class SavedFileError extends PostcopyError {
  readonly path: string
  /** Offset of the rejected field; undefined if the file as a whole is rejected. */
  readonly fileOffset: number | undefined

  constructor(
    kind: SavedErrorKind,
    place: { readonly path: string; readonly offset?: number; readonly inside?: string },
    message: string,
    options?: ErrorOptions,
  ) {
    const { path, offset, inside } = place
    const where =
      offset === undefined ? '' : ` (at offset ${offset}${inside === undefined ? '' : inside})`
    super(SavedErrorCode[kind], `${path}: ${message}${where}`, options)
    this.path = path
    this.fileOffset = offset
  }
}

const STREAM_KINDS: Readonly<Record<string, SavedErrorKind>> = {
  ERR_STREAM_TRUNCATED: 'truncated',
  ERR_STREAM_CAPABILITY: 'refused',
}

/**
 * Runs a decoder of the stream. Its errors become errors of the file.
 *
 * @param inside - what the offset is an offset of, if that is not the file
 */
export function decodeInFile<T>(path: string, inside: string | undefined, decode: () => T): T {
  try {
    return decode()
  } catch (error) {
    if (!(error instanceof StreamError)) throw error
    const text = error.message.replace(/ \(at stream offset \d+\)$/, '')
    const kind = STREAM_KINDS[error.code] ?? 'damaged'
    const place = { path, offset: error.streamOffset, ...(inside === undefined ? {} : { inside }) }
    throw new SavedFileError(kind, place, text, { cause: error })
  }
}
