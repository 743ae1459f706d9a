/**
 * The package, which the destination reads completely before it loads any device of it.
 *
 *   LISTEN   FULL sections of all devices   PING 3   PING 0x42   RUN
 */
import {
  COMMANDS,
  Command,
  COMMAND_HEADER_BYTES,
  ElementType,
  PingValue,
  SECTION_FOOTER,
} from './constants.js'
import { DeviceSectionReader } from './device-sections.js'
import { encodeListen, encodePing, encodeRun } from './encode-command.js'
import { refuse } from './errors.js'
import { Reader, u16At, u32At } from './reader.js'
import type { SectionHeader } from './types.js'
import { encode } from './writer.js'
import { hex } from '../units.js'

/** Lengths of a command without payload, and of a PING. */
const BARE_BYTES = COMMAND_HEADER_BYTES
const PING_BYTES = COMMAND_HEADER_BYTES + 4
/** Limited because each PING is answered. QEMU sends two. */
const MAX_PINGS = 64

/**
 * Makes the blob of a PACKAGED command.
 *
 * @param devices - FULL sections, see {@link DeviceSectionWriter}, or those of a saved stream
 * @param pings - values in order. Every QEMU accepts the default; new ones wait for PONG 0x42
 */
export function encodePackage(
  devices: Uint8Array,
  pings: readonly number[] = [PingValue.devicesLoaded, PingValue.packageLoaded],
): Uint8Array<ArrayBuffer> {
  return encode((out) => {
    encodeListen(out)
    out.bytes(devices)
    for (const value of pings) encodePing(out, value)
    encodeRun(out)
  })
}

/** A package, split without decoding its devices. */
export interface PackageCut {
  /** A view of the FULL sections. */
  readonly devices: Uint8Array
  /** Values to answer, in order, once the devices are loaded. */
  readonly pings: readonly number[]
}

/**
 * Splits a package by searching from both ends, because device sections have no length.
 *
 * @param streamOffset - offset of the blob's first byte, for errors
 * @throws StreamError `ERR_STREAM_PACKAGE` if it does not begin with LISTEN or end with RUN
 */
export function findPackagePings(blob: Uint8Array, streamOffset = 0): PackageCut {
  checkListen(blob, streamOffset)
  let end = blob.length - BARE_BYTES
  if (end < BARE_BYTES || !isCommand(blob, end, Command.run, 0)) {
    refuse('package', 'the package does not end with RUN', streamOffset + Math.max(end, 0))
  }
  const pings: number[] = []
  while (end - PING_BYTES >= BARE_BYTES && isCommand(blob, end - PING_BYTES, Command.ping, 4)) {
    end -= PING_BYTES
    checkPings(pings.length + 1, streamOffset + end)
    pings.unshift(u32At(blob, end + BARE_BYTES))
  }
  const devices = blob.subarray(BARE_BYTES, end)
  if (devices.length > 0) checkDevices(devices, streamOffset + BARE_BYTES)
  return { devices, pings }
}

/** Checks that a package begins with LISTEN; its first five bytes are enough. */
export function checkListen(blob: Uint8Array, streamOffset = 0): void {
  if (!isCommand(blob, 0, Command.listen, 0)) {
    refuse('package', 'the first element of a package must be LISTEN', streamOffset)
  }
}

/** Callbacks for the elements of a package, called in order. */
export interface PackageHandler {
  listen?(): void
  /** Must read exactly the body. If it throws, the package is rejected. */
  device(header: SectionHeader, body: Reader): void
  ping?(value: number): void
  run?(): void
}

/**
 * Decodes a package whose devices the handler knows.
 *
 * @param streamOffset - offset of the blob's first byte, for errors
 * @throws StreamError `ERR_STREAM_PACKAGE`: LISTEN is not first, RUN is missing or not last, or an
 *   element is not allowed in a package
 */
export function decodePackage(blob: Uint8Array, handler: PackageHandler, streamOffset = 0): void {
  checkListen(blob, streamOffset)
  const reader = new Reader(blob, streamOffset)
  reader.bytes(BARE_BYTES)
  handler.listen?.()
  const sections = new DeviceSectionReader(reader)
  for (let pings = 0; ;) {
    const section = sections.next()
    if (section !== undefined) {
      handler.device(section.header, section.body)
    } else {
      if (readPackageCommand(reader, handler)) break
      pings += 1
      checkPings(pings, reader.streamOffset)
    }
  }
  if (reader.remaining > 0) {
    refuse('package', 'RUN must be the last element of a package', reader.streamOffset)
  }
  handler.run?.()
}

/** Reads a PING or RUN; true for RUN. */
function readPackageCommand(reader: Reader, handler: PackageHandler): boolean {
  const offset = reader.streamOffset
  if (reader.remaining === 0) refuse('package', 'the package ends without RUN', offset)
  const type = reader.u8()
  if (type !== ElementType.command) {
    refuse('package', `element ${hex(type)} is not allowed in a package`, offset)
  }
  const command = reader.u16()
  const length = reader.u16()
  const name = COMMANDS.get(command)?.name ?? hex(command)
  const known = COMMANDS.get(command)
  if (known !== undefined && typeof known.length === 'number' && known.length !== length) {
    refuse('command', `${name} with ${length} bytes, not ${known.length}`, offset)
  }
  switch (command) {
    case Command.ping:
      handler.ping?.(reader.u32())
      return false
    case Command.run:
      return true
    case Command.packaged:
      return refuse('package', 'a package within a package', offset)
    default:
      return refuse('package', `command ${name} is not allowed in a package`, offset)
  }
}

function checkPings(count: number, offset: number): void {
  if (count > MAX_PINGS) refuse('limit', `a package with more than ${MAX_PINGS} pings`, offset)
}

function isCommand(bytes: Uint8Array, at: number, command: number, length: number): boolean {
  return (
    bytes.length >= at + COMMAND_HEADER_BYTES + length &&
    bytes[at] === ElementType.command &&
    u16At(bytes, at + 1) === command &&
    u16At(bytes, at + 3) === length
  )
}

function checkDevices(devices: Uint8Array, streamOffset: number): void {
  if (devices[0] === ElementType.command && u16At(devices, 1) === Command.packaged) {
    refuse('package', 'a package within a package', streamOffset)
  }
  if (devices[0] !== ElementType.sectionFull) {
    refuse('package', `${hex(devices[0] ?? 0)} does not begin a device section`, streamOffset)
  }
  const footer = devices.length - 5
  if (footer <= 0 || devices[footer] !== SECTION_FOOTER) {
    refuse('package', 'no footer after the last device', streamOffset + Math.max(footer, 0))
  }
}
