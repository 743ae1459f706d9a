/** Bytes that are written late must not change meanwhile, because their buffers are used again. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PositionedSink } from '../../src/park/byte-sink.js'
import { ExportInput } from '../../src/park/export-input.js'
import { writeMappedRam } from '../../src/park/export-mapped-ram.js'
import { writeStream } from '../../src/park/export-stream.js'
import { cleanups } from '../support/cleanup.js'
import { contentOf, MIB, PAGE, sharedVm, sparseStream } from './export-support.js'
import { readMappedRam } from './mapped-ram-reader.js'
import { ramOf } from './support.js'

const LENGTH_BYTES = 6 * MIB
const pages = Array.from({ length: LENGTH_BYTES / PAGE }, (_, page) => page)

/** A file in memory that takes each byte 5 ms late, as a slow disk does. */
class SlowSink implements PositionedSink {
  readonly bytes = Buffer.alloc(2 * LENGTH_BYTES)
  lengthBytes = 0

  async append(bytes: Uint8Array): Promise<void> {
    await this.writeAt(bytes, this.lengthBytes)
  }

  async writeAt(bytes: Uint8Array, position: number): Promise<void> {
    this.lengthBytes = Math.max(this.lengthBytes, position + bytes.length)
    await sleep(5)
    this.bytes.set(bytes, position)
  }

  async finish(): Promise<void> {
    await Promise.resolve()
  }

  discard(): void {
    this.lengthBytes = 0
  }
}

describe('an export to a slow disk', () => {
  const shared = sharedVm(sparseStream({ 'pc.ram': { lengthBytes: LENGTH_BYTES, pages } }))

  async function written(
    write: typeof writeMappedRam,
  ): Promise<{ bytes: Buffer; devicesBytes: number }> {
    const { vm } = await shared.open()
    const input = ExportInput.open(vm, { verify: true, onProgress: () => undefined })
    cleanups.add(() => input.close())
    const sink = new SlowSink()
    await write(input, sink)
    const bytes = sink.bytes.subarray(0, sink.lengthBytes)
    return { bytes, devicesBytes: input.devices.length }
  }

  it('has the right pages in a stream', async () => {
    const { bytes } = await written(writeStream)
    const ram = ramOf(bytes).get('pc.ram')
    for (const page of pages) {
      const content = ram?.subarray(page * PAGE, (page + 1) * PAGE) ?? new Uint8Array()
      assert(Buffer.from(contentOf(page)).equals(content), `page ${page}`)
    }
  })

  it('has the right pages in a mapped-ram file', async () => {
    const { bytes, devicesBytes } = await written(writeMappedRam)
    const [block] = readMappedRam(bytes, devicesBytes).blocks
    for (const page of pages)
      assert(block?.pages.get(page)?.equals(contentOf(page)), `page ${page}`)
  })
})
