import { StreamError } from '../errors.js'

/**
 * Every code of a {@link StreamError}, with its meaning. `streamOffset` is that of the rejected
 * element: of its type byte, or of the first byte of a `ram` record or return path message.
 */
export const StreamErrorCode = {
  /** The channel ended inside an element, or before the stream was complete. */
  truncated: 'ERR_STREAM_TRUNCATED',
  /** The first four bytes are not those of a migration stream. */
  magic: 'ERR_STREAM_MAGIC',
  /** A file or section version that this receiver does not know. */
  version: 'ERR_STREAM_VERSION',
  /** The configuration is missing, malformed, or for a machine that cannot be received. */
  configuration: 'ERR_STREAM_CONFIGURATION',
  /** A byte that starts no element, or an element in a place where it is not allowed. */
  element: 'ERR_STREAM_ELEMENT',
  /** Unknown or repeated section id, or a device that cannot be received. */
  section: 'ERR_STREAM_SECTION',
  /** The footer of a section is missing or has another id. */
  footer: 'ERR_STREAM_FOOTER',
  /** Unknown command, wrong length or payload. */
  command: 'ERR_STREAM_COMMAND',
  /** LISTEN is not first or RUN not last in a package; a nested package; LISTEN or RUN outside. */
  package: 'ERR_STREAM_PACKAGE',
  /** The RAM block list is malformed. */
  blockList: 'ERR_STREAM_BLOCK_LIST',
  /** A RAM block that was never announced, or no block where one is needed. */
  block: 'ERR_STREAM_BLOCK',
  /** An offset or range that is unaligned or outside its RAM block. */
  range: 'ERR_STREAM_RANGE',
  /** Flags of a `ram` record that are unknown, or not allowed in this place. */
  ramFlags: 'ERR_STREAM_RAM_FLAGS',
  /** A zero page whose fill byte is not 0. */
  fill: 'ERR_STREAM_FILL',
  /** The source uses a capability that this receiver lacks; the message names it. */
  capability: 'ERR_STREAM_CAPABILITY',
  /** The description after a precopy is not JSON. */
  description: 'ERR_STREAM_DESCRIPTION',
  /** Unknown return path message, wrong length or payload. */
  returnPath: 'ERR_STREAM_RETURN_PATH',
  /** A received bitmap of the wrong size, or without its end mark. */
  recvBitmap: 'ERR_STREAM_RECV_BITMAP',
  /** A number of 2^53 or more, which JavaScript cannot represent exactly. */
  number: 'ERR_STREAM_NUMBER',
  /** More than the limit in the decoder's options. */
  limit: 'ERR_STREAM_LIMIT',
} as const

export type StreamErrorCode = (typeof StreamErrorCode)[keyof typeof StreamErrorCode]

/** Throws a StreamError. The type `never` lets callers omit `return`. */
export function refuse(
  code: keyof typeof StreamErrorCode,
  message: string,
  streamOffset: number,
): never {
  throw new StreamError(StreamErrorCode[code], message, streamOffset)
}

/** Rejects an announced length before any memory is allocated for it. */
export function checkLimit(
  what: string,
  lengthBytes: number,
  limitBytes: number,
  streamOffset: number,
): void {
  if (lengthBytes > limitBytes) {
    refuse('limit', `${what} of ${lengthBytes} bytes, the limit is ${limitBytes}`, streamOffset)
  }
}
