/** Commands: 08, u16 command, u16 length, payload. */
import { TARGET_PAGE_SIZE, hex } from '../units.js'
import { COMMANDS, Command, COMMAND_HEADER_BYTES, type WireMessage } from './constants.js'
import { refuse } from './errors.js'
import type { StreamHandler } from './handler.js'
import { checkRange, type RamBlockTable } from './ram-block-table.js'
import { Reader, u16At } from './reader.js'

/** Rejects an unknown command or a wrong length; the header must be complete. */
export function checkCommand(bytes: Uint8Array, at: number, streamOffset: number): WireMessage {
  const command = u16At(bytes, at + 1)
  const length = u16At(bytes, at + 3)
  const known = COMMANDS.get(command)
  if (known === undefined) {
    return refuse('command', `unknown command ${command}`, streamOffset)
  }
  checkLength('command', known, length, streamOffset)
  if (command === Command.enableColo) {
    const advice = 'turn off the capability x-colo on the source'
    refuse('capability', `command ENABLE_COLO: ${advice}`, streamOffset)
  }
  if (command === Command.listen || command === Command.run) {
    refuse('package', `command ${known.name} outside a package`, streamOffset)
  }
  return known
}

/** Rejects a payload length that the table does not allow. */
export function checkLength(
  code: 'command' | 'returnPath',
  { name, length: expected }: WireMessage,
  length: number,
  streamOffset: number,
): void {
  if (expected === 'variable') return
  const legal = typeof expected === 'number' ? [expected] : expected
  if (!legal.includes(length)) {
    refuse(code, `${name} with ${length} bytes, not ${legal.join(' or ')}`, streamOffset)
  }
}

/** The decoder's own reactions to commands, besides calls of the handler. */
export interface CommandEffects {
  readonly table: RamBlockTable
  readonly handler: StreamHandler
  /** Called for ADVISE. */
  advised(pageSizeSummary: number | undefined): void
  /** Called for PACKAGED; its blob follows the command. */
  packaged(lengthBytes: number, streamOffset: number): void
}

/** Calls the handler for a complete command that passed {@link checkCommand}. */
export function dispatchCommand(
  bytes: Uint8Array,
  at: number,
  streamOffset: number,
  effects: CommandEffects,
): void {
  const { handler } = effects
  const length = u16At(bytes, at + 3)
  const payload = at + COMMAND_HEADER_BYTES
  const payloadOffset = streamOffset + COMMAND_HEADER_BYTES
  const reader = new Reader(bytes, payloadOffset, payload, payload + length)
  switch (u16At(bytes, at + 1)) {
    case Command.openReturnPath:
      handler.openReturnPath?.()
      break
    case Command.ping:
      handler.ping?.(reader.u32())
      break
    case Command.advise: {
      const summary = length === 0 ? undefined : reader.u64()
      const targetPageSize = length === 0 ? undefined : reader.u64()
      effects.advised(summary)
      handler.advise?.(summary, targetPageSize)
      break
    }
    case Command.ramDiscard:
      dispatchDiscard(reader, streamOffset, effects)
      break
    case Command.packaged:
      effects.packaged(reader.u32(), streamOffset)
      break
    case Command.resume:
      handler.resume?.()
      break
    case Command.recvBitmap:
      dispatchRecvBitmap(reader, length, streamOffset, effects)
      break
    case Command.switchoverStart:
      handler.switchoverStart?.()
  }
}

/** u8 version 0, str8 block, u8 0, then pairs of u64 start and u64 length. */
function dispatchDiscard(reader: Reader, streamOffset: number, effects: CommandEffects): void {
  const what = 'POSTCOPY_RAM_DISCARD'
  const version = reader.peek()
  if (version !== undefined && version !== 0) {
    refuse('command', `${what} of version ${version}, not 0`, streamOffset)
  }
  const nameLength = reader.remaining < 2 ? Infinity : readNameLength(reader)
  const rangeBytes = reader.remaining - nameLength - 1
  if (rangeBytes < 16 || rangeBytes % 16 !== 0) {
    refuse('command', `${what}: its length does not fit a name and ranges`, streamOffset)
  }
  const name = reader.name(nameLength)
  const terminator = reader.u8()
  if (terminator !== 0) {
    refuse('command', `${what}: ${hex(terminator)} after the name, not 0`, streamOffset)
  }
  const block = effects.table.demand(name, what, streamOffset)
  const ranges = new Float64Array(rangeBytes / 8)
  for (let i = 0; i < ranges.length; i += 2) {
    const start = reader.u64()
    const lengthBytes = reader.u64()
    checkRange(what, block, start, lengthBytes, TARGET_PAGE_SIZE, streamOffset)
    ranges[i] = start
    ranges[i + 1] = lengthBytes
  }
  effects.handler.ramDiscard?.(name, ranges)
}

function readNameLength(reader: Reader): number {
  reader.u8()
  return reader.u8()
}

/** str8 block, which must fill the payload. */
function dispatchRecvBitmap(
  reader: Reader,
  length: number,
  streamOffset: number,
  effects: CommandEffects,
): void {
  if (length === 0 || length !== 1 + (reader.peek() ?? 0)) {
    refuse('command', `RECV_BITMAP: ${length} bytes do not fit a name`, streamOffset)
  }
  const name = reader.str8()
  effects.table.demand(name, 'RECV_BITMAP', streamOffset)
  effects.handler.recvBitmap?.(name)
}
