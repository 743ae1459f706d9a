/** The QMP client against a server in this process. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { QmpClient, QmpRefusal, type QmpEvent } from '../../src/qemu/index.js'
import { cleanups } from '../support/cleanup.js'
import { FakeQemu } from '../support/fake-qemu.js'
import { temporaryFolder } from '../cli/support.js'

async function connected(): Promise<{ qemu: FakeQemu; client: QmpClient }> {
  const qemu = await FakeQemu.start()
  const client = await QmpClient.connect(qemu.path, { timeoutMs: 2000 })
  cleanups.add(() => client.close())
  return { qemu, client }
}

describe('the QMP client', () => {
  it('negotiates and knows the version and the process of its peer', async () => {
    const { qemu, client } = await connected()
    assert.deepEqual(qemu.commands, ['qmp_capabilities'])
    assert.deepEqual(client.version, { major: 7, minor: 2, micro: 22 })
    assert.equal(client.peerPid, process.pid)
  })

  it('gives each command its own answer, however the answers are ordered', async () => {
    const { qemu, client } = await connected()
    qemu.answers['slow'] = () => 'silence'
    const slow = client.execute('slow')
    const status = await client.execute('query-status')
    assert.deepEqual(status, { status: 'running', running: true })
    qemu.send({ return: 'late', id: 2 })
    assert.equal(await slow, 'late')
  })

  it('names the command and QEMU’s own description in a refusal', async () => {
    const { qemu, client } = await connected()
    qemu.answers['migrate'] = () => {
      throw new Error('There is a \u001b[1m migration')
    }
    await assert.rejects(client.execute('migrate', { uri: 'x' }), (error) => {
      assert(error instanceof QmpRefusal)
      assert.equal(error.code, 'ERR_QMP_REFUSED')
      assert.equal(error.command, 'migrate')
      assert.equal(error.desc, 'There is a \u001b[1m migration')
      assert.equal(error.message, 'QEMU refused migrate: There is a \\x1b[1m migration')
      return true
    })
  })

  it('emits events, also between a command and its answer', async () => {
    const { qemu, client } = await connected()
    qemu.answers['stop'] = () => {
      qemu.send({ event: 'STOP' })
    }
    const emitted = once(client, 'event') as Promise<[QmpEvent]>
    const [[event]] = await Promise.all([emitted, client.execute('stop')])
    assert.deepEqual(event, { event: 'STOP', data: {} })
  })

  it('rejects every pending and later command when QEMU ends', async () => {
    const { qemu, client } = await connected()
    qemu.answers['migrate'] = () => 'silence'
    const pending = client.execute('migrate')
    setImmediate(() => qemu.disconnect())
    await assert.rejects(pending, { code: 'ERR_QMP_CLOSED', message: /no answer to migrate/ })
    await assert.rejects(client.execute('cont'), { code: 'ERR_QMP_CLOSED', message: /to cont/ })
    assert(client.isClosed)
  })

  it('ends a wait for an answer, and takes a late answer for no other command', async () => {
    const qemu = await FakeQemu.start()
    const client = await QmpClient.connect(qemu.path, { timeoutMs: 50 })
    cleanups.add(() => client.close())
    qemu.answers['slow'] = () => 'silence'
    await assert.rejects(client.execute('slow'), { code: 'ERR_QMP_TIMEOUT', message: /slow/ })
    qemu.send({ return: 'late', id: 2 })
    assert.deepEqual(await client.execute('cont'), {})
  })

  it('explains a socket that sends no greeting by another client', async () => {
    const qemu = await FakeQemu.start()
    qemu.greeting = undefined
    const connecting = QmpClient.connect(qemu.path, { timeoutMs: 50 })
    await assert.rejects(connecting, { code: 'ERR_QMP_TIMEOUT', message: /another one may be/ })
  })

  it('rejects a peer that does not speak QMP', async () => {
    for (const text of ['SSH-2.0-x\r\n', '[1]\n', '"QMP"\n', '}\n']) {
      const qemu = await FakeQemu.start()
      qemu.greeting = undefined
      const connecting = QmpClient.connect(qemu.path, { timeoutMs: 2000 })
      setTimeout(() => qemu.sendRaw(text), 20)
      await assert.rejects(connecting, { code: 'ERR_QMP_PROTOCOL' }, text)
    }
  })

  it('names a socket that does not exist', async () => {
    const path = `${await temporaryFolder()}/none`
    await assert.rejects(QmpClient.connect(path), { code: 'ERR_QMP_CONNECT', message: /no such/ })
  })

  it('rejects a path of more than 107 bytes at once', async () => {
    await assert.rejects(QmpClient.connect(`/${'ä'.repeat(54)}`), {
      code: 'ERR_INVALID_URI',
      message: /109 bytes.*at most 107/,
    })
  })
})
