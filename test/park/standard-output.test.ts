import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, openSync, readFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { StandardOutput } from '../../src/park/standard-output.js'
import { pipeChunks } from '../../src/user-files.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'

/** More than a pipe or a socket takes at once. */
const BYTES = Buffer.alloc(2 ** 20, 'abcdefg')

function opened(path: string, flags: string | number): number {
  const fd = openSync(path, flags)
  cleanups.add(() => closeSync(fd))
  return fd
}

/** Both ends of a FIFO; the reader's belongs to the caller. */
async function fifo(): Promise<{ reader: number; writer: number }> {
  const path = join(await temporaryFolder(), 'fifo')
  execFileSync('mkfifo', [path])
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  return { reader, writer: opened(path, 'w') }
}

async function write(fd: number): Promise<void> {
  const out = StandardOutput.open(fd)
  await out.append(BYTES)
  await out.append(BYTES)
  await out.finish()
  assert.equal(out.lengthBytes, 2 * BYTES.length)
}

async function collect(chunks: AsyncIterable<Uint8Array>, lengthBytes: number): Promise<Buffer> {
  let all = Buffer.alloc(0)
  for await (const chunk of chunks) {
    all = Buffer.concat([all, chunk])
    if (all.length >= lengthBytes) break
  }
  return all
}

describe('a stream on standard output', () => {
  const expected = Buffer.concat([BYTES, BYTES])

  it('is complete in a file, after what the file has', async () => {
    const path = join(await temporaryFolder(), 'file')
    const fd = opened(path, 'a')
    await write(fd)
    await write(fd)
    assert(readFileSync(path).equals(Buffer.concat([expected, expected])))
  })

  it('is complete in a pipe', async () => {
    const { reader, writer } = await fifo()
    const [read] = await Promise.all([collect(pipeChunks(reader), expected.length), write(writer)])
    assert(read.equals(expected))
  })

  it('is complete in a socket', async () => {
    const path = join(await temporaryFolder(), 'socket')
    const server = net.createServer().listen(path)
    await once(server, 'listening')
    const client = net.connect(path)
    const [[peer]] = (await Promise.all([once(server, 'connection'), once(client, 'connect')])) as [
      [net.Socket],
      unknown,
    ]
    cleanups.add(() => {
      server.close()
      client.destroy()
      peer.destroy()
    })
    const { fd } = (peer as unknown as { _handle: { fd: number } })._handle
    const [read] = await Promise.all([collect(client, expected.length), write(fd)])
    assert(read.equals(expected))
  })

  it('ends with EPIPE if its reader ends, before or meanwhile', async () => {
    const gone = await fifo()
    closeSync(gone.reader)
    await assert.rejects(write(gone.writer), { code: 'EPIPE' })
    const { reader, writer } = await fifo()
    const writing = write(writer)
    await sleep(20)
    closeSync(reader)
    await assert.rejects(writing, { code: 'EPIPE' })
  })

  it('can be ended while its reader reads nothing', async () => {
    const { reader, writer } = await fifo()
    cleanups.add(() => closeSync(reader))
    const out = StandardOutput.open(writer)
    const writing = out.append(BYTES)
    await sleep(20)
    out.discard()
    await assert.rejects(writing, { name: 'PostcopyError' })
  })

  it('names the error if it cannot be written', async () => {
    await assert.rejects(write(opened('/dev/full', 'w')), {
      code: 'ENOSPC',
      message: /^standard output cannot be written/,
    })
  })
})
