import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'

/**
 * Bytes of QEMU 7.2; see golden/README.md. Read from the source folder: the
 * compiler copies no data.
 */
export function golden(name: string): Uint8Array {
  return gunzipSync(
    readFileSync(new URL(`../../../test/stream/golden/${name}.gz`, import.meta.url)),
  )
}
