import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { closeFd, listenUnixSocket } from '../../src/kernel/index.js'
import { listenOn } from '../../src/net/listen-on.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import { Destination } from '../../src/destination/destination.js'
import { TestMachine } from '../support/test-machine.js'

/** The most permissive umask that a user can set. */
function clearUmask(): void {
  const before = process.umask(0)
  cleanups.add(() => process.umask(before))
}

async function listening(path: string) {
  const server = net.createServer()
  const listener = await listenOn(server, { type: 'unix', path })
  cleanups.add(() => listener.close())
  return listener
}

describe('a unix socket', () => {
  it('is accessible only to its owner as soon as its file exists', async () => {
    clearUmask()
    const path = join(await temporaryFolder(), 'socket')
    // There was no chmod: the socket was created with this mode.
    const fd = listenUnixSocket(path, 0o600)
    cleanups.add(() => closeFd(fd))
    const { mode } = statSync(path)
    assert.equal(mode % 0o1000, 0o600)
  })

  it('has the same mode for every listener', async () => {
    clearUmask()
    const path = join(await temporaryFolder(), 'socket')
    await listening(path)
    assert.equal(statSync(path).mode % 0o1000, 0o600)
  })

  it('accepts connections as soon as its file exists', async () => {
    const path = join(await temporaryFolder(), 'socket')
    const fd = listenUnixSocket(path, 0o600)
    cleanups.add(() => closeFd(fd))
    const socket = net.connect(path)
    cleanups.add(() => void socket.destroy())
    await once(socket, 'connect')
  })

  it('removes its file when it is closed', async () => {
    const path = join(await temporaryFolder(), 'socket')
    const listener = await listening(path)
    assert(existsSync(path))
    listener.close()
    assert(!existsSync(path))
  })

  it('does not remove a file that has replaced its own', async () => {
    const path = join(await temporaryFolder(), 'socket')
    const first = await listening(path)
    rmSync(path)
    const second = await listening(path)
    first.close()
    assert(statSync(path).isSocket())
    const socket = net.connect(path)
    cleanups.add(() => void socket.destroy())
    await once(socket, 'connect')
    rmSync(path)
    writeFileSync(path, 'of another')
    second.close()
    assert.equal(readFileSync(path, 'utf8'), 'of another')
  })

  it('replaces only an unused socket', async () => {
    const folder = await temporaryFolder()
    const [stale, used, file] = ['stale', 'used', 'file'].map((name) => join(folder, name))
    assert(stale !== undefined && used !== undefined && file !== undefined)
    closeFd(listenUnixSocket(stale, 0o600))
    await listening(stale)
    await listening(used)
    await assert.rejects(listening(used), { code: 'EADDRINUSE' })
    writeFileSync(file, '')
    await assert.rejects(listening(file), { code: 'EADDRINUSE' })
    assert(existsSync(file))
  })

  it('has a path that fits, otherwise it is refused with the path', async () => {
    const path = `/tmp/${'x'.repeat(103)}`
    await assert.rejects(listening(path), { code: 'ENAMETOOLONG', message: /unix:\/tmp\/xxx/ })
    assert.throws(() => listenUnixSocket('a\0b', 0o600), RangeError)
    assert.throws(() => listenUnixSocket('', 0o600), { code: 'ENAMETOOLONG' })
  })

  it('leaves no file if a destination is closed before its source connects', async () => {
    const path = join(await temporaryFolder(), 'socket')
    const destination = await Destination.listen(new TestMachine(), { uri: `unix:${path}` })
    assert.equal(statSync(path).mode % 0o1000, 0o600)
    await destination.close()
    assert(!existsSync(path))
  })
})
