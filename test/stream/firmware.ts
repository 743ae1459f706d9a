/**
 * 64 KiB of our own firmware, so that the repository contains no foreign one. From the reset
 * vector it fills 16 pages from 0x10000 on, page n with 16-bit words of n + 1, and halts:
 * cli; es = 0x1000; di = 0; cx = 0x8000; again: ax = 1 + di / 4096; stosw; loop again; hlt
 */
export function firmware(): Uint8Array {
  const bios = new Uint8Array(65536)
  bios.set(Buffer.from('fab800108ec031ffb9008089f8c1e80c40abe2f7f4ebfd', 'hex'))
  bios.set(Buffer.from('ea000000f0', 'hex'), 0xfff0)
  return bios
}
