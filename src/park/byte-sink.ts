/** Where an exported VM is written. */
export interface ByteSink {
  /** Bytes appended so far. */
  readonly lengthBytes: number
  /** Appends bytes, which must not change until the promise settles. One call at a time. */
  append(bytes: Uint8Array): Promise<void>
  /** Ends after the last byte. A file gets its name here. */
  finish(): Promise<void>
  /** Ends after a failure. Of a file nothing is left. May be called twice. */
  discard(): void
}

/** A sink that can be written anywhere, such as a file. */
export interface PositionedSink extends ByteSink {
  /** Writes at an offset; a gap becomes a hole. Several calls at a time. */
  writeAt(bytes: Uint8Array, position: number): Promise<void>
}
