/**
 * A guest that needs no disk and no boot: firmware of our own, which counts in every page of RAM
 * above 1 MiB, and checks on each pass that the page has what the last pass left there. A page
 * that is lost, stale or misplaced makes it say X; every 256 passes it says a dot.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

/*
 *   start16: cli; lgdt cs:[gdtr]; cr0 |= 1; jmp 8:start32
 *   start32: ds = 0x10; A20 on by port 0x92; dx = 0x3f8; ebp = 0
 *   pass:    edi = 0x100000
 *   page:    al = 'X'; if ([edi] != ebp) goto wrong
 *   back:    [edi] += 1; edi += 0x1000; if (edi < END) goto page
 *            ebp += 1; if (ebp & 0xff) goto pass; out dx, '.'; goto pass
 *   wrong:   out dx, al; [edi] = ebp; goto back
 */
const CODE =
  'fa2e0f011617000f20c00c010f22c066ea35000f00080017001d000f000000000000000000ffff0000009acf00' +
  'ffff00000092cf00b8100000008ed8e4920c02e69266baf80331edbf00001000b058392f751eff0781c70010000081ff' +
  '4433221172ea45f7c5ff00000075dcb02eeeebd7ee892febdd'
const END_PLACE = '44332211'
const RESET_VECTOR = 0xfff0

/** Writes the firmware and returns QEMU's arguments for it. @param endBytes - where RAM to count in ends */
export function countingFirmware(folder: string, endBytes: number): string[] {
  const end = Buffer.alloc(4)
  end.writeUInt32LE(endBytes)
  const image = new Uint8Array(65536)
  image.set(Buffer.from(CODE.replace(END_PLACE, end.toString('hex')), 'hex'))
  image.set(Buffer.from('ea000000f0', 'hex'), RESET_VECTOR)
  const path = join(folder, `firmware-${endBytes}`)
  writeFileSync(path, image)
  return ['-bios', path]
}
