import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'

/** What QEMU 7.2 said; see golden/README.md. Read from the sources: the compiler copies none. */
export function golden(name: string): Uint8Array {
  return gunzipSync(
    readFileSync(new URL(`../../../test/stream/golden/${name}.gz`, import.meta.url)),
  )
}
