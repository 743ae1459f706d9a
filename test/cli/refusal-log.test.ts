import assert from 'node:assert/strict'
import net from 'node:net'
import { once } from 'node:events'
import { REFUSALS_SHOWN, RefusalLog } from '../../src/cli/refusal-log.js'
import { ConnectionError } from '../../src/errors.js'
import { Cli } from './support.js'

describe('the log of rejected connections', () => {
  it('has a line each for the first ones, and one for all others', () => {
    const lines: string[] = []
    const log = new RefusalLog({
      one: ({ message }) => lines.push(message),
      more: (count, { message }) => lines.push(`${count}, ${message}`),
    })
    for (let index = 0; index < 1000; index += 1) log.note(new ConnectionError('X', `${index}`))
    assert.deepEqual(lines, [...Array(REFUSALS_SHOWN).keys()].map(String))
    log.flush()
    assert.equal(lines.at(-1), `${1000 - REFUSALS_SHOWN}, 999`)
    log.flush()
    log.note(new ConnectionError('X', 'again'))
    log.flush()
    assert.deepEqual(lines.slice(REFUSALS_SHOWN + 1), ['again'])
  })

  it('is that of a guest that waits', async () => {
    const cli = new Cli(['guest', '--ram', '8M', '--incoming', 'tcp:127.0.0.1:0'])
    const [, port] = await cli.seen(/waiting for a guest on tcp:127\.0\.0\.1:(\d+)/)
    const strangers = Array.from({ length: REFUSALS_SHOWN + 5 }, () => {
      const socket = net.connect(Number(port), '127.0.0.1').on('error', () => undefined)
      socket.end('GET /')
      socket.resume()
      return once(socket, 'close')
    })
    await Promise.all(strangers)
    cli.child.stdin?.end('quit\n')
    const { stderr } = await cli.ended
    assert.equal(stderr.match(/^postcopy: turned away: /gm)?.length, REFUSALS_SHOWN)
    assert.match(stderr, /turned away [1-5] more connections, the last of them: /)
  })
})
