/**
 * A strict reader of mapped-ram files, written from the format's description: it refuses a file in
 * which anything stands at another place than QEMU puts it.
 */
import assert from 'node:assert/strict'

const PAGE = 4096
const MIB = 2 ** 20

export interface MappedBlock {
  readonly name: string
  readonly lengthBytes: number
  readonly bitmapAt: number
  readonly pagesAt: number
  /** Content of the pages whose bit is set, by page. */
  readonly pages: ReadonlyMap<number, Buffer>
}

export interface MappedRam {
  readonly machineType: string
  readonly capabilities: readonly string[]
  readonly uuid: Buffer | undefined
  readonly ramSectionId: number
  readonly blocks: readonly MappedBlock[]
  readonly devices: Buffer
  readonly description: Buffer | undefined
}

class Cursor {
  readonly file: Buffer
  at = 0

  constructor(file: Buffer) {
    this.file = file
  }

  bytes(count: number): Buffer {
    assert(this.at + count <= this.file.length, `the file ends before ${this.at + count}`)
    this.at += count
    return this.file.subarray(this.at - count, this.at)
  }

  u8 = (): number => this.bytes(1).readUInt8()
  u32 = (): number => this.bytes(4).readUInt32BE()
  u64 = (): number => Number(this.bytes(8).readBigUInt64BE())
  str8 = (): string => this.bytes(this.u8()).toString()
}

/** @param devicesBytes - length of the device sections, which do not tell it */
export function readMappedRam(file: Buffer, devicesBytes: number): MappedRam {
  const from = new Cursor(file)
  assert.equal(from.bytes(4).toString(), 'QEVM')
  assert.equal(from.u32(), 3)
  assert.equal(from.u8(), 7)
  const machineType = from.bytes(from.u32()).toString()
  const { capabilities, uuid } = readSubsections(from)
  assert(capabilities.includes('mapped-ram'), 'the capability is listed')
  assert.equal(from.u8(), 1, 'SECTION_START')
  const id = from.u32()
  assert.deepEqual([from.str8(), from.u32(), from.u32()], ['ram', 0, 4])
  const total = from.u64()
  assert.equal(total % PAGE, 4)
  const blocks: MappedBlock[] = []
  for (let left = total - 4; left > 0;) {
    const block = readBlock(from)
    blocks.push(block)
    left -= block.lengthBytes
  }
  endOfSection(from, id)
  assert.deepEqual([from.u8(), from.u32()], [3, id], 'SECTION_END')
  endOfSection(from, id)
  const devices = from.bytes(devicesBytes)
  assert.equal(devices[0], 4, 'SECTION_FULL')
  assert.equal(from.u8(), 0, 'the end of the stream')
  let description
  if (from.at < file.length) {
    assert.equal(from.u8(), 6)
    description = from.bytes(from.u32())
  }
  assert.equal(from.at, file.length, 'nothing follows')
  return { machineType, capabilities, uuid, ramSectionId: id, blocks, devices, description }
}

function readSubsections(from: Cursor): { capabilities: string[]; uuid: Buffer | undefined } {
  const capabilities: string[] = []
  let uuid
  while (from.file[from.at] === 5) {
    from.u8()
    const name = from.str8()
    assert.equal(from.u32(), 1)
    if (name === 'configuration/uuid') uuid = from.bytes(16)
    else {
      assert.equal(name, 'configuration/capabilities')
      for (let count = from.u32(); count > 0; count -= 1) capabilities.push(from.str8())
    }
  }
  return { capabilities, uuid }
}

function readBlock(from: Cursor): MappedBlock {
  const name = from.str8()
  const lengthBytes = from.u64()
  assert.deepEqual([from.u32(), from.u64()], [1, PAGE])
  const [bitmapAt, pagesAt] = [from.u64(), from.u64()]
  assert.equal(bitmapAt, from.at, 'the bitmap follows its header')
  const count = lengthBytes / PAGE
  const bitmap = from.bytes(Math.ceil(count / 64) * 8)
  assert.equal(pagesAt, Math.ceil(from.at / MIB) * MIB, 'the pages begin at the next MiB')
  const pages = new Map<number, Buffer>()
  for (let page = 0; page < bitmap.length * 8; page += 1) {
    const word = bitmap.readBigUInt64LE(Math.floor(page / 64) * 8)
    if (((word >> BigInt(page % 64)) & 1n) === 0n) continue
    assert(page < count, `bit ${page} is beyond the block`)
    const at = pagesAt + page * PAGE
    const content = from.file.subarray(at, at + PAGE)
    assert(
      content.some((byte) => byte !== 0),
      `page ${page} of ${name} is zero`,
    )
    pages.set(page, content)
  }
  from.at = pagesAt
  from.bytes(lengthBytes)
  return { name, lengthBytes, bitmapAt, pagesAt, pages }
}

function endOfSection(from: Cursor, id: number): void {
  assert.deepEqual([from.u64(), from.u8(), from.u32()], [0x10, 0x7e, id], 'EOS and footer')
}
