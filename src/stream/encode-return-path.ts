import {
  RECV_BITMAP_END_HIGH,
  RECV_BITMAP_END_LOW,
  RESUME_ACK_VALUE,
  ReturnPathMessage,
} from './constants.js'
import { encodeName } from './names.js'
import type { Writer } from './writer.js'

/**
 * The last message. 0 lets the source complete. With any other value the source runs its guest
 * again, so a destination whose guest has run must never send one.
 */
export function encodeShut(out: Writer, value: number): void {
  encodeHeader(out, ReturnPathMessage.shut, 4)
  out.u32(value)
}

/** Answers a PING. */
export function encodePong(out: Writer, value: number): void {
  encodeHeader(out, ReturnPathMessage.pong, 4)
  out.u32(value)
}

/**
 * Asks for host pages.
 *
 * @param block - undefined: the block of the previous request on this connection
 * @param start - byte offset in the block, multiple of its host page size
 * @param lengthBytes - multiple of its host page size; QEMU asks for exactly one
 */
export function encodePageRequest(
  out: Writer,
  block: string | undefined,
  start: number,
  lengthBytes: number,
): void {
  if (block === undefined) {
    encodeHeader(out, ReturnPathMessage.requestPages, 12)
    out.u64(start).u32(lengthBytes)
  } else {
    const name = encodeName(block)
    encodeHeader(out, ReturnPathMessage.requestPagesNamed, 13 + name.length)
    out.u64(start).u32(lengthBytes).u8(name.length).bytes(name)
  }
}

/**
 * Tells a recovering source which pages were received.
 *
 * @param bitmap - page i is bit `i & 7` of byte `i >> 3`, 1 = received; padded to 8 bytes here
 */
export function encodeRecvBitmap(out: Writer, block: string, bitmap: Uint8Array): void {
  const padding = (8 - (bitmap.length % 8)) % 8
  const name = encodeName(block)
  encodeHeader(out, ReturnPathMessage.recvBitmap, 1 + name.length)
  out.u8(name.length).bytes(name)
  out.u64(bitmap.length + padding).bytes(bitmap)
  for (let i = 0; i < padding; i += 1) out.u8(0)
  out.u32(RECV_BITMAP_END_HIGH).u32(RECV_BITMAP_END_LOW)
}

/** Accepts a RESUME: both ends continue in postcopy. */
export function encodeResumeAck(out: Writer): void {
  encodeHeader(out, ReturnPathMessage.resumeAck, 4)
  out.u32(RESUME_ACK_VALUE)
}

/** Tells that the destination is ready for the switchover; only with `switchover-ack`, QEMU 8.1. */
export function encodeSwitchoverAck(out: Writer): void {
  encodeHeader(out, ReturnPathMessage.switchoverAck, 0)
}

function encodeHeader(out: Writer, type: number, payloadBytes: number): void {
  out.u16(type).u16(payloadBytes)
}
