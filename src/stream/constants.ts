/**
 * The numbers of QEMU's migration stream. The comments have QEMU's names, so that a search for them
 * finds this file. All integers on the wire are unsigned and big-endian.
 */
import { TARGET_PAGE_SIZE } from '../units.js'

/** `QEMU_VM_FILE_MAGIC`, "QEVM". */
export const FILE_MAGIC = 0x5145564d
/** `QEMU_VM_FILE_VERSION`. */
export const FILE_VERSION = 3
/** `MULTIFD_MAGIC`: the first bytes of a multifd channel. */
export const MULTIFD_MAGIC = 0x11223344

/** The type byte that every top-level element starts with. */
export const ElementType = {
  /** `QEMU_VM_EOF`: the section loop ends; a description may follow. */
  endOfStream: 0x00,
  /** `QEMU_VM_SECTION_START`: first section of an iterable device. */
  sectionStart: 0x01,
  /** `QEMU_VM_SECTION_PART`: an iteration. */
  sectionPart: 0x02,
  /** `QEMU_VM_SECTION_END`: last section of an iterable device. */
  sectionEnd: 0x03,
  /** `QEMU_VM_SECTION_FULL`: the whole state of an ordinary device. */
  sectionFull: 0x04,
  /** `QEMU_VM_SUBSECTION`: only inside device state and after the configuration. */
  subsection: 0x05,
  /** `QEMU_VM_VMDESCRIPTION`: JSON, after a precopy's EOF. */
  vmDescription: 0x06,
  /** `QEMU_VM_CONFIGURATION`: the machine type; follows the file header. */
  configuration: 0x07,
  /** `QEMU_VM_COMMAND`. */
  command: 0x08,
} as const

/** `QEMU_VM_SECTION_FOOTER`: ends every section's body; never a top-level type. */
export const SECTION_FOOTER = 0x7e

/** `enum qemu_vm_cmd`: commands from source to destination. 0 is invalid on purpose. */
export const Command = {
  /** `MIG_CMD_OPEN_RETURN_PATH` */
  openReturnPath: 1,
  /** `MIG_CMD_PING` */
  ping: 2,
  /** `MIG_CMD_POSTCOPY_ADVISE` */
  advise: 3,
  /** `MIG_CMD_POSTCOPY_LISTEN` */
  listen: 4,
  /** `MIG_CMD_POSTCOPY_RUN` */
  run: 5,
  /** `MIG_CMD_POSTCOPY_RAM_DISCARD` */
  ramDiscard: 6,
  /** `MIG_CMD_PACKAGED` */
  packaged: 7,
  /** `MIG_CMD_ENABLE_COLO` */
  enableColo: 8,
  /** `MIG_CMD_POSTCOPY_RESUME` */
  resume: 9,
  /** `MIG_CMD_RECV_BITMAP` */
  recvBitmap: 10,
  /** `MIG_CMD_SWITCHOVER_START`, QEMU 10.0 */
  switchoverStart: 11,
} as const

/** Name and legal payload lengths of a command or message. */
export interface WireMessage {
  /** QEMU's name, used in errors. */
  readonly name: string
  /** Exact length of the payload in bytes, a list of legal lengths, or any. */
  readonly length: number | 'variable' | readonly number[]
}

/** `mig_cmd_args`: the length is checked here before any handler runs. */
export const COMMANDS: ReadonlyMap<number, WireMessage> = new Map<number, WireMessage>([
  [Command.openReturnPath, { name: 'OPEN_RETURN_PATH', length: 0 }],
  [Command.ping, { name: 'PING', length: 4 }],
  // Length 0 announces postcopy of dirty bitmaps only.
  [Command.advise, { name: 'POSTCOPY_ADVISE', length: [16, 0] }],
  [Command.listen, { name: 'POSTCOPY_LISTEN', length: 0 }],
  [Command.run, { name: 'POSTCOPY_RUN', length: 0 }],
  [Command.ramDiscard, { name: 'POSTCOPY_RAM_DISCARD', length: 'variable' }],
  [Command.packaged, { name: 'PACKAGED', length: 4 }],
  [Command.enableColo, { name: 'ENABLE_COLO', length: 0 }],
  [Command.resume, { name: 'POSTCOPY_RESUME', length: 0 }],
  [Command.recvBitmap, { name: 'RECV_BITMAP', length: 'variable' }],
  [Command.switchoverStart, { name: 'SWITCHOVER_START', length: 0 }],
])

/** Bytes of a command before its payload: type, u16 command, u16 length. */
export const COMMAND_HEADER_BYTES = 5

/** `enum mig_rp_message_type`: messages from destination to source. */
export const ReturnPathMessage = {
  /** `MIG_RP_MSG_SHUT` */
  shut: 1,
  /** `MIG_RP_MSG_PONG` */
  pong: 2,
  /** `MIG_RP_MSG_REQ_PAGES_ID`: the longer request has the smaller number. */
  requestPagesNamed: 3,
  /** `MIG_RP_MSG_REQ_PAGES` */
  requestPages: 4,
  /** `MIG_RP_MSG_RECV_BITMAP`: the bitmap follows outside the counted length. */
  recvBitmap: 5,
  /** `MIG_RP_MSG_RESUME_ACK` */
  resumeAck: 6,
  /** `MIG_RP_MSG_SWITCHOVER_ACK`, QEMU 8.1, capability `switchover-ack` */
  switchoverAck: 7,
} as const

/** `rp_cmd_args`. */
export const RETURN_PATH_MESSAGES: ReadonlyMap<number, WireMessage> = new Map<number, WireMessage>([
  [ReturnPathMessage.shut, { name: 'SHUT', length: 4 }],
  [ReturnPathMessage.pong, { name: 'PONG', length: 4 }],
  [ReturnPathMessage.requestPagesNamed, { name: 'REQ_PAGES_ID', length: 'variable' }],
  [ReturnPathMessage.requestPages, { name: 'REQ_PAGES', length: 12 }],
  [ReturnPathMessage.recvBitmap, { name: 'RECV_BITMAP', length: 'variable' }],
  [ReturnPathMessage.resumeAck, { name: 'RESUME_ACK', length: 4 }],
  [ReturnPathMessage.switchoverAck, { name: 'SWITCHOVER_ACK', length: 0 }],
])

/** Bytes of a return path message before its payload: u16 type, u16 length. */
export const RETURN_PATH_HEADER_BYTES = 4
/** The longest payload of a return path message. */
export const MAX_RETURN_PATH_PAYLOAD_BYTES = 512
/** `MIGRATION_RESUME_ACK_VALUE`: the only legal value of RESUME_ACK. */
export const RESUME_ACK_VALUE = 1
/** `RAMBLOCK_RECV_BITMAP_ENDING`, 0x0123456789abcdef, too wide for a number. */
export const RECV_BITMAP_END_HIGH = 0x01234567
export const RECV_BITMAP_END_LOW = 0x89abcdef

/** Flags in the low 12 bits of a `ram` record; the bits above are a byte offset in a block. */
export const RamFlag = {
  /** `RAM_SAVE_FLAG_ZERO`: u8 fill instead of a page. */
  zero: 0x002,
  /** `RAM_SAVE_FLAG_MEM_SIZE`: the block list. */
  memSize: 0x004,
  /** `RAM_SAVE_FLAG_PAGE`: one target page. */
  page: 0x008,
  /** `RAM_SAVE_FLAG_EOS`: the section's data ends. */
  endOfSection: 0x010,
  /** `RAM_SAVE_FLAG_CONTINUE`: same block as the previous record; no name follows. */
  continue: 0x020,
  /** `RAM_SAVE_FLAG_XBZRLE` */
  xbzrle: 0x040,
  /** `RAM_SAVE_FLAG_HOOK` */
  hook: 0x080,
  /** `RAM_SAVE_FLAG_COMPRESS_PAGE` */
  compressPage: 0x100,
  /** `RAM_SAVE_FLAG_MULTIFD_FLUSH` */
  multifdFlush: 0x200,
} as const

/** Mask of the flag bits. */
export const RAM_FLAGS_MASK = TARGET_PAGE_SIZE - 1
/** Bytes of a `ram` record before its name or content: u64 offset with flags. */
export const RAM_RECORD_HEAD_BYTES = 8
/** A page without the name of its block. */
export const RAM_PAGE_RECORD_BYTES = RAM_RECORD_HEAD_BYTES + TARGET_PAGE_SIZE
/** A zero page without the name of its block. */
export const RAM_ZERO_RECORD_BYTES = RAM_RECORD_HEAD_BYTES + 1
/** The longest name of a block, with its length byte. */
export const MAX_RECORD_NAME_BYTES = 256
/** Bytes of a PART or END section before its data: u8 type, u32 section id. */
export const SECTION_HEAD_BYTES = 5
/** Bytes of a section's footer: u8 type, u32 section id. */
export const SECTION_FOOTER_BYTES = 5
/** The idstr of the section that carries guest memory, and its only version. */
export const RAM_SECTION = 'ram'
export const RAM_SECTION_VERSION = 4

/** The smallest page size that the block list may announce. */
export const MIN_ANNOUNCED_PAGE_SIZE = 0x2000

/** Most ranges that QEMU puts in one RAM_DISCARD. */
export const MAX_DISCARD_RANGES = 12
/** `MAX_VM_CMD_PACKAGED_SIZE`: QEMU's only limit is the width of the u32. */
export const MAX_PACKAGE_BYTES = 0xffffffff

/** PING values that QEMU sends, by their position in the stream. */
export const PingValue = {
  /** In the prologue. */
  start: 1,
  /** Before the package. */
  beforePackage: 2,
  /** In the package, after the devices. */
  devicesLoaded: 3,
  /** After the package. */
  afterPackage: 4,
  /** `QEMU_VM_PING_PACKAGED_LOADED`, QEMU 10.2: last in the package; sources wait for its PONG. */
  packageLoaded: 0x42,
} as const

/** `QEMU_VM_CONFIGURATION` subsections. Their data has no length, so no others can be parsed. */
export const ConfigurationSubsectionName = {
  targetPageBits: 'configuration/target-page-bits',
  capabilities: 'configuration/capabilities',
  uuid: 'configuration/uuid',
} as const
