import assert from 'node:assert/strict'
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import {
  closeFd,
  duplicateFd,
  getSocketOption,
  outstandingBytes,
  sendNow,
  setSocketOption,
  spinUntilReadable,
} from '../../src/kernel/index.js'
import { cleanups } from '../support/cleanup.js'
import { runNode } from '../support/node-script.js'

/** Node does not expose a socket's descriptor, but the handle of a TCP socket does. */
function fdOf(socket: Socket): number {
  const { _handle: handle } = socket as unknown as { _handle: { fd: number } }
  return handle.fd
}

async function connectedPair(): Promise<[Socket, Socket]> {
  const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const accepted = once(server, 'connection') as Promise<[Socket]>
  const client = connect(port, '127.0.0.1')
  await once(client, 'connect')
  const [peer] = await accepted
  cleanups.add(() => {
    client.destroy()
    peer.destroy()
    server.close()
  })
  return [client, peer]
}

describe('sockets', () => {
  it('return the options that were set', async () => {
    const [client] = await connectedPair()
    const fd = fdOf(client)
    for (const [option, value] of [
      ['TCP_NOTSENT_LOWAT', 65536],
      ['TCP_NODELAY', 1],
      ['TCP_USER_TIMEOUT', 12345],
    ] as const) {
      assert.notEqual(getSocketOption(fd, option), value)
      setSocketOption(fd, option, value)
      assert.equal(getSocketOption(fd, option), value)
    }
    setSocketOption(fd, 'TCP_QUICKACK', 0)
    assert.equal(getSocketOption(fd, 'TCP_QUICKACK'), 0)
    // The kernel doubles the requested value.
    for (const option of ['SO_SNDBUF', 'SO_RCVBUF'] as const) {
      setSocketOption(fd, option, 40_000)
      assert.equal(getSocketOption(fd, option), 80_000)
    }
  })

  it('send at once as much as the kernel accepts, and fail if the peer has closed', async () => {
    const [client, peer] = await connectedPair()
    peer.pause()
    const much = new Uint8Array(64 * 2 ** 20)
    const taken = sendNow(fdOf(client), much)
    assert(taken > 0 && taken < much.length, `${taken}`)
    // As queued bytes move on to the peer, the kernel has room for a little more.
    const more = Array.from({ length: 100 }, () => sendNow(fdOf(client), much))
    assert.equal(more.at(-1), 0)
    const [other, gone] = await connectedPair()
    other.pause()
    gone.resetAndDestroy()
    await once(gone, 'close')
    assert.equal(sendNow(fdOf(other), much), 0)
  })

  it('are polled without sleeping, until one is readable or the time is over', async () => {
    const [client, peer] = await connectedPair()
    const [silent] = await connectedPair()
    assert.equal(spinUntilReadable(fdOf(client), fdOf(silent), 50), false)
    client.pause()
    sendNow(fdOf(peer), Uint8Array.of(1))
    assert.equal(spinUntilReadable(fdOf(client), fdOf(silent), 10_000_000), true)
    assert.equal(spinUntilReadable(fdOf(silent), fdOf(client), 10_000_000), true)
  })

  it('report how many bytes the peer has not acknowledged', async () => {
    const [client, peer] = await connectedPair()
    const fd = fdOf(client)
    assert.equal(outstandingBytes(fd), 0)
    setSocketOption(fdOf(peer), 'SO_RCVBUF', 4096)
    client.write(new Uint8Array(4 * 2 ** 20))
    await new Promise(setImmediate)
    assert(outstandingBytes(fd) > 0)
  })

  it('fail with the call, its arguments and the errno', () => {
    const fd = openSync('/dev/null', 'r')
    cleanups.add(() => {
      closeSync(fd)
    })
    assert.throws(
      () => {
        setSocketOption(fd, 'TCP_NODELAY', 1)
      },
      {
        code: 'ENOTSOCK',
        syscall: 'setsockopt',
        message: `ENOTSOCK: setsockopt(${fd}, TCP_NODELAY, 1)`,
      },
    )
    assert.throws(() => getSocketOption(2 ** 30, 'SO_SNDBUF'), { code: 'EBADF' })
    assert.throws(() => outstandingBytes(fd), { code: 'ENOTTY' })
    assert.throws(() => {
      setSocketOption(-1, 'TCP_NODELAY', 1)
    }, RangeError)
    assert.throws(() => {
      setSocketOption(fd, 'TCP_NODELAY', 2 ** 40)
    }, RangeError)
    // @ts-expect-error an option that does not exist
    assert.throws(() => getSocketOption(fd, 'TCP_TIMEOUT'), RangeError)
  })
})

describe('descriptors', () => {
  it('are duplicated, close-on-exec, and closed', () => {
    const fd = openSync('/dev/null', 'r')
    const copy = duplicateFd(fd)
    assert.notEqual(copy, fd)
    closeSync(fd)
    assert(fstatSync(copy).isCharacterDevice())
    const flags = /^flags:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${copy}`, 'utf8'))
    assert.equal(Math.floor(parseInt(flags?.[1] ?? '', 8) / 0o2000000) % 2, 1)
    closeFd(copy)
    assert.throws(() => fstatSync(copy), { code: 'EBADF' })
    assert.throws(
      () => {
        closeFd(2 ** 30)
      },
      { code: 'EBADF', syscall: 'close' },
    )
    assert.throws(() => duplicateFd(2 ** 30), { code: 'EBADF' })
  })

  it('count as not readable if poll(2) fails while polling, without an exception', () => {
    const kernel = JSON.stringify(new URL('../../src/kernel/index.js', import.meta.url))
    const lab = JSON.stringify(new URL('../../src/host/native.js', import.meta.url))
    // poll(2) fails with EINVAL for more descriptors than RLIMIT_NOFILE (7) allows.
    const { stdout } = runNode(
      `import { spinUntilReadable } from ${kernel}
       import { labNative } from ${lab}
       const lab = labNative()
       const before = new BigUint64Array(2)
       spinUntilReadable(0, 0, 0)
       const limited = lab.syscall(302, 0, 7, BigUint64Array.of(1n, 1n << 12n), before)
       const readable = spinUntilReadable(0, 0, 100)
       lab.syscall(302, 0, 7, before, 0)
       console.log('limited: ' + limited + ', readable: ' + readable)`,
    )
    assert.match(stdout, /^limited: 0, readable: false$/m)
  })
})
