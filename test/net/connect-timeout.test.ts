import assert from 'node:assert/strict'
import net from 'node:net'
import { ConnectionError } from '../../src/errors.js'
import { established } from '../../src/net/connect-timeout.js'
import { cleanups } from '../support/cleanup.js'
import { RecordedTimers } from '../support/recorded-timers.js'

/** The wait for a socket that is never connected: its events come from the test. */
function waiting(abort = new AbortController()) {
  const timers = new RecordedTimers()
  const socket = new net.Socket()
  cleanups.add(() => socket.destroy())
  const result = established(
    socket,
    {
      event: 'connect',
      cannot: 'cannot connect to x',
      lateCode: 'ETIMEDOUT',
      explain: ({ message }) => new ConnectionError('ECONNREFUSED', `explained: ${message}`),
    },
    { timeoutMs: 70, signal: abort.signal },
  )
  return { socket, result, timers, abort }
}

/** Nothing of the wait is left. */
function assertOver({ socket, timers }: ReturnType<typeof waiting>): void {
  assert.deepEqual(timers.delaysMs, [])
  assert.equal(socket.listenerCount('connect'), 0)
}

describe('the wait for a connection', () => {
  it('ends when the socket is connected', async () => {
    const wait = waiting()
    assert.deepEqual(wait.timers.delaysMs, [70])
    wait.socket.emit('connect')
    await wait.result
    assertOver(wait)
    assert.equal(wait.socket.listenerCount('error'), 0)
    wait.abort.abort()
    assert.equal(wait.socket.destroyed, false)
  })

  it('ends with the explained error of the socket', async () => {
    const wait = waiting()
    wait.socket.emit('error', new Error('refused'))
    await assert.rejects(wait.result, { code: 'ECONNREFUSED', message: 'explained: refused' })
    assertOver(wait)
    assert.equal(wait.socket.destroyed, true)
    wait.socket.emit('error', new Error('a later error is ignored'))
  })

  it('ends after its timeout', async () => {
    const wait = waiting()
    wait.timers.fire()
    await assert.rejects(wait.result, {
      code: 'ETIMEDOUT',
      message: 'cannot connect to x: no answer within 70 ms',
    })
    assertOver(wait)
    assert.equal(wait.socket.destroyed, true)
  })

  it('ends when it is aborted, also before it begins', async () => {
    const later = waiting()
    later.abort.abort()
    const before = new AbortController()
    before.abort()
    for (const wait of [later, waiting(before)]) {
      await assert.rejects(wait.result, { code: 'ABORT_ERR' })
      assertOver(wait)
      assert.equal(wait.socket.destroyed, true)
    }
  })
})
