/**
 * Tells from the first bytes of a connection whether the peer is a source (protocol sections 1.1
 * and 7). It only peeks: the receiver decodes the same bytes again.
 */
import { StreamError } from '../errors.js'
import {
  encode,
  encodeFileHeader,
  encodeRecvBitmapRequest,
  MULTIFD_MAGIC,
  StreamDecoder,
  type StreamDecoderOptions,
  StreamErrorCode,
} from '../stream/index.js'

/**
 * Bytes that a connection may send before its role is known. They stay in the channel's buffer,
 * which needs room for the next read.
 */
export const MAX_UNKNOWN_BYTES = 64 * 1024

/** 51 45 56 4d. */
const migrationBegins = encode(encodeFileHeader).subarray(0, 4)
/** 08 00 0a: a recovery has no header; it begins with the request for a received bitmap. */
const recoveryBegins = encode((out) => encodeRecvBitmapRequest(out, '')).subarray(0, 3)
/** The multifd channels of a source may send before its main channel does. */
const multifdBegins = encode((out) => out.u32(MULTIFD_MAGIC))

/** `unknown`: more bytes are needed. `stranger`: not a source, for the reason `why`. */
export type PeerRole =
  | { readonly is: 'unknown' | 'source' | 'multifd' }
  | { readonly is: 'stranger'; readonly why: string }

export class SourceProbe {
  readonly #greeting: Uint8Array
  readonly #wanted: string
  readonly #decoder: StreamDecoder
  #hasConfiguration = false
  #isSource = false

  /** @param resume - of the paused migration to recover; undefined: a new migration */
  constructor(resume: StreamDecoderOptions['resume']) {
    this.#greeting = resume === undefined ? migrationBegins : recoveryBegins
    this.#wanted =
      resume === undefined
        ? 'a migration (a paused one has to be recovered first)'
        : 'a recovery (the source has to use migrate with resume)'
    const known = (): void => {
      this.#isSource = true
      this.#decoder.stop()
    }
    this.#decoder = new StreamDecoder(
      {
        configuration: () => {
          this.#hasConfiguration = true
        },
        // The receiver checks their content.
        ramBlocks: known,
        recvBitmap: known,
      },
      resume === undefined ? {} : { resume },
    )
  }

  /**
   * Recognizes a source by its RAM block list, or by the first received-bitmap request of a
   * recovery. A connection that breaks before that has begun nothing.
   *
   * @param bytes - everything that the connection has sent
   */
  look(bytes: Uint8Array): PeerRole {
    const first = bytes.subarray(0, this.#greeting.length)
    if (isBeginningOf(first, multifdBegins)) return { is: 'multifd' }
    if (!isBeginningOf(first, this.#greeting)) {
      const text = `${Buffer.from(first).toString('hex')} does not begin ${this.#wanted}`
      return { is: 'stranger', why: text }
    }
    try {
      this.#decoder.write(bytes, this.#decoder.streamOffset)
    } catch (error) {
      // A source whose stream this end cannot receive: the receiver reports it to both ends.
      if (this.#hasConfiguration || isOfCapability(error)) return { is: 'source' }
      return { is: 'stranger', why: error instanceof Error ? error.message : String(error) }
    }
    const isLong = this.#hasConfiguration && bytes.length > MAX_UNKNOWN_BYTES
    return { is: this.#isSource || isLong ? 'source' : 'unknown' }
  }
}

/** Only the configuration of a source names a capability that cannot be received. */
function isOfCapability(error: unknown): boolean {
  return error instanceof StreamError && error.code === StreamErrorCode.capability
}

function isBeginningOf(said: Uint8Array, word: Uint8Array): boolean {
  return said.every((byte, index) => byte === word[index])
}
