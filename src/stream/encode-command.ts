import { Command, ElementType, MAX_DISCARD_RANGES, MAX_PACKAGE_BYTES } from './constants.js'
import { encodeName } from './names.js'
import type { Writer } from './writer.js'

/** Opens the return path on the same connection. Must precede the first PING. */
export function encodeOpenReturnPath(out: Writer): void {
  encodeCommand(out, Command.openReturnPath, 0)
}

/** Asks for a PONG with the same value. */
export function encodePing(out: Writer, value: number): void {
  encodeCommand(out, Command.ping, 4)
  out.u32(value)
}

/**
 * Announces that postcopy may follow.
 *
 * @param pageSizeSummary - bitwise OR of the host page sizes of all migrated blocks
 */
export function encodeAdvise(out: Writer, pageSizeSummary: number, targetPageSize: number): void {
  encodeCommand(out, Command.advise, 16)
  out.u64(pageSizeSummary).u64(targetPageSize)
}

/** First element of a package. */
export function encodeListen(out: Writer): void {
  encodeCommand(out, Command.listen, 0)
}

/** Last element of a package. */
export function encodeRun(out: Writer): void {
  encodeCommand(out, Command.run, 0)
}

/**
 * Names the ranges that the destination has to discard, because they will be sent (again). Writes
 * several commands if needed: as in QEMU, one has at most 12 ranges.
 *
 * @param ranges - start, length, start, length, … in bytes in the block; if empty, writes nothing
 */
export function encodeRamDiscard(out: Writer, block: string, ranges: ArrayLike<number>): void {
  if (ranges.length % 2 !== 0) throw new RangeError('ranges are pairs of start and length')
  const name = encodeName(block)
  for (let from = 0; from < ranges.length; from += 2 * MAX_DISCARD_RANGES) {
    const to = Math.min(ranges.length, from + 2 * MAX_DISCARD_RANGES)
    encodeCommand(out, Command.ramDiscard, 3 + name.length + (to - from) * 8)
    out.u8(0).u8(name.length).bytes(name).u8(0)
    for (let i = from; i < to; i += 1) out.u64(ranges[i] ?? 0)
  }
}

/** The command before a package; the blob follows, and does not count in the command's length. */
export function encodePackagedHeader(out: Writer, blobLengthBytes: number): void {
  if (blobLengthBytes > MAX_PACKAGE_BYTES)
    throw new RangeError('a package must be smaller than 4 GiB')
  encodeCommand(out, Command.packaged, 4)
  out.u32(blobLengthBytes)
}

/** The command and its blob, see {@link encodePackage}. */
export function encodePackaged(out: Writer, blob: Uint8Array): void {
  encodePackagedHeader(out, blob.length)
  out.bytes(blob)
}

/** Ends the handshake of a recovery. */
export function encodeResume(out: Writer): void {
  encodeCommand(out, Command.resume, 0)
}

/** Asks a recovering destination for the received bitmap of a block. */
export function encodeRecvBitmapRequest(out: Writer, block: string): void {
  const name = encodeName(block)
  encodeCommand(out, Command.recvBitmap, 1 + name.length)
  out.u8(name.length).bytes(name)
}

/** Tells that the guest has stopped. Only for QEMU 10.0 or newer: older versions reject it. */
export function encodeSwitchoverStart(out: Writer): void {
  encodeCommand(out, Command.switchoverStart, 0)
}

function encodeCommand(out: Writer, command: number, payloadBytes: number): void {
  out.u8(ElementType.command).u16(command).u16(payloadBytes)
}
