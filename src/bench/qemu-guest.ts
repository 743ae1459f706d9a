/**
 * Guests without disk or operating system: our own firmware, which works in all RAM above 1 MiB.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PostcopyError } from '../errors.js'
import { TARGET_PAGE_SIZE } from '../units.js'

/*
 * Counts in every page, and checks on each pass that the page has the value of the last pass. For
 * a page that is lost, stale or misplaced it prints X; every PASSES passes it prints a dot.
 *
 *   start16: cli; lgdt cs:[gdtr]; cr0 |= 1; jmp 8:start32
 *   start32: ds = 0x10; A20 on by port 0x92; dx = 0x3f8; ebp = 0
 *   pass:    edi = 0x100000
 *   page:    al = 'X'; if ([edi] != ebp) goto wrong
 *   back:    [edi] += 1; edi += 0x1000; if (edi < END) goto page
 *            ebp += 1; if (ebp & (PASSES - 1)) goto pass; out dx, '.'; goto pass
 *   wrong:   out dx, al; [edi] = ebp; goto back
 */
const COUNT =
  'fa2e0f011617000f20c00c010f22c066ea35000f00080017001d000f000000000000000000ffff0000009acf00' +
  'ffff00000092cf00b8100000008ed8e4920c02e69266baf80331edbf00001000b058392f751eff0781c70010000081ff' +
  '4433221172ea45f7c5ddccbbaa75dcb02eeeebd7ee892febdd'
const END_PLACE = '44332211'
const MASK_PLACE = 'ddccbbaa'

/*
 * Fills every page with its own address, whole, and prints F. Then it touches hot pages for ever:
 * in order or uniformly at random, like our own workloads `sweep` and `random`. A touch checks the
 * page's first word, which is the address plus a version; half of the touches write the next
 * version. Versions are stored apart, a byte per page from 0x10000 on, so that a lost, stale or
 * misplaced page is detected: it then prints X and halts. Addresses in brackets are the parameters
 * below.
 *
 *   start16: cli; lgdt cs:[gdtr]; cr0 |= 1; jmp 8:start32
 *   start32: ds = es = 0x10; A20 on by port 0x92; edi = 0x100000
 *   fill:    eax = edi; ecx = 1024; rep stosd; if (edi < [END]) goto fill
 *            al = 'F'; ebx = 1; ebp = 0
 *   say:     out 0x3f8, al; esi = [PART]
 *   touch:   ebx = ebx * 1664525 + 1013904223
 *            eax = ebp; if ([RANDOM]) eax = ebx * [HOT] >> 32
 *            edi = 0x100000 + eax * 4096; ecx = version[eax]
 *            edx = edi + ecx; if ([edi] != edx) goto wrong
 *            if (ebx & 0x2000) { cl += 1; version[eax] = cl; [edi] = edi + ecx }
 *            ebp += 1; if (--esi) goto touch
 *            al = '.'; if (ebp < [HOT]) goto say
 *            ebp = 0; al = 'S'; goto say
 *   wrong:   out 0x3f8, 'X'; halt: hlt; goto halt
 */
const SWEEP =
  'fa2e0f011616000f20c0400f22c066ea34000f00080017001c000f000000000000000000ffff0000009acf00ff' +
  'ff00000092cf00b8100000008ed88ec0e4920c02e692bf0000100089f8b900040000f3ab3b3d000f0f0072efb0' +
  '46bb0100000031ed66baf803ee8b35080f0f0069db0d66190081c35ff36e3c89e8833d0c0f0f0000740a89d8f7' +
  '25040f0f0089d089c7c1e70c81c7000010000fb688000001008d140f39177526f6c720740dfec1888800000100' +
  '8d140f8917454e75b0b02e3b2d040f0f00729b31edb053eb95b05866baf803eef4ebfd'
/** Offset of END, HOT, PART and RANDOM in the image. */
const PARAMETERS = 0xf00
const FIRST_PAGE = 256
/** This many versions fit between 0x10000 and the end of conventional memory. */
const MAX_HOT_PAGES = 0x90000 - TARGET_PAGE_SIZE

const RESET_VECTOR = 0xfff0

/**
 * Writes the firmware and returns QEMU's arguments for it.
 *
 * @param endBytes - end of the RAM to count in
 * @param passes - per dot, a power of two
 */
export function countingFirmware(folder: string, endBytes: number, passes = 256): string[] {
  const word = Buffer.alloc(8)
  word.writeUInt32LE(endBytes)
  word.writeUInt32LE(passes - 1, 4)
  const code = COUNT.replace(END_PLACE, word.toString('hex', 0, 4)).replace(
    MASK_PLACE,
    word.toString('hex', 4),
  )
  return firmware(join(folder, `firmware-${endBytes}`), image(code))
}

/** How often a sweeping guest reports its progress in each sweep. */
export const SWEEP_PARTS = 64
/** What it prints: `part` after each part, except `sweep` after the last one. */
export const SWEEP_SAYS = { filled: 'F', part: '.', sweep: 'S', wrong: 'X' } as const

/** The memory and the pattern of a sweeping guest. */
export interface SweepOptions {
  /** At most 3 GiB, the largest contiguous RAM of a `pc`. */
  readonly ramBytes: number
  /** Touched for ever, from 1 MiB on; a multiple of {@link SWEEP_PARTS} pages. */
  readonly hotBytes: number
  readonly pattern: 'sweep' | 'random'
}

/** As {@link countingFirmware}, for a guest that reports its progress in each sweep. */
export function sweepingFirmware(folder: string, options: SweepOptions): string[] {
  const { ramBytes, hotBytes, pattern } = options
  const hotPages = hotBytes / TARGET_PAGE_SIZE
  const pages = ramBytes / TARGET_PAGE_SIZE
  if (hotPages % SWEEP_PARTS !== 0 || hotPages > Math.min(MAX_HOT_PAGES, pages - FIRST_PAGE)) {
    throw new PostcopyError('ERR_BENCH', `no sweep over ${hotBytes} of ${ramBytes} bytes`)
  }
  const bytes = image(SWEEP)
  const random = pattern === 'random' ? 1 : 0
  new Uint32Array(bytes.buffer, PARAMETERS).set([
    ramBytes,
    hotPages,
    hotPages / SWEEP_PARTS,
    random,
  ])
  return firmware(join(folder, `firmware-${pattern}`), bytes)
}

function image(code: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(65536)
  bytes.set(Buffer.from(code, 'hex'))
  bytes.set(Buffer.from('ea000000f0', 'hex'), RESET_VECTOR)
  return bytes
}

function firmware(path: string, bytes: Uint8Array): string[] {
  writeFileSync(path, bytes)
  return ['-bios', path]
}
