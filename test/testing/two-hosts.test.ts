import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { HostLink, TwoHosts } from '../../src/testing/index.js'
import { isAlive } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import { requires } from '../support/requires.js'
import { twoHosts } from '../support/two-hosts.js'

/** Network namespaces that a process created. */
function namespacesOf(pid: number | undefined): string[] {
  const { stdout } = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' })
  return stdout.split('\n').filter((line) => line.startsWith(`postcopy-${pid}-`))
}

const kit = new URL('../../src/testing/index.js', import.meta.url).href

describe('two hosts on one machine', () => {
  before(function () {
    requires(this, 'root', 'ip')
  })

  it('reach each other, and no other host', () => {
    const { a, b } = twoHosts()
    assert.match(a.run('ip', 'route', 'get', b.address), new RegExp(`src ${a.address}`))
    assert.throws(() => a.run('ip', 'route', 'get', '198.51.100.1'), {
      code: 'ERR_TWO_HOSTS',
      message: /unreachable/,
    })
  })

  it('are created in the requested number, and removed completely', () => {
    const pairs = [twoHosts(), twoHosts()]
    assert.equal(namespacesOf(process.pid).length, 4)
    for (const hosts of pairs) {
      hosts.remove()
      hosts.remove()
    }
    assert.deepEqual(namespacesOf(process.pid), [])
  })

  it('end the processes that run there when they are removed', async () => {
    const hosts = twoHosts()
    const child = hosts.b.spawn('sleep', ['1000'])
    const exit = once(child, 'exit')
    await once(child, 'spawn')
    // The child is ip(8) at first, which then executes the command.
    while (!hosts.b.pids().includes(child.pid ?? -1));
    assert.deepEqual(hosts.a.pids(), [])
    hosts.remove()
    assert.deepEqual(await exit, [null, 'SIGKILL'])
  })

  for (const how of ['throw new Error("of no use")', 'process.kill(process.pid, "SIGTERM")']) {
    it(`are removed after a process that ends by ${how}`, async () => {
      const script = `
        import { TwoHosts } from '${kit}'
        const hosts = TwoHosts.create()
        const child = hosts.a.spawn('sleep', ['1000'])
        child.on('spawn', () => {
          console.log(child.pid)
          ${how}
        })
        setInterval(() => {}, 1000)`
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      cleanups.add(() => child.kill('SIGKILL'))
      const exit = once(child, 'exit')
      const [sleeper] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string]
      assert.notDeepEqual(await exit, [0, null])
      assert.deepEqual(namespacesOf(child.pid), [])
      while (isAlive(Number(sleeper)));
    })
  }

  it('replace the hosts that a killed process of the same id has left', () => {
    const left = twoHosts()
    const { name } = left.a
    left.remove()
    const next = name.replace(/-(\d+)-a$/, (_, number) => `-${Number(number) + 1}-a`)
    spawnSync('ip', ['netns', 'add', next])
    assert.equal(twoHosts().a.name, next)
  })

  it('leave nothing if they cannot be created', () => {
    const path = process.env['PATH']
    cleanups.add(() => {
      process.env['PATH'] = path
    })
    process.env['PATH'] = '/nowhere'
    assert.throws(() => TwoHosts.create(), {
      code: 'ERR_TWO_HOSTS',
      message: /ip netns add .*ENOENT/,
    })
    process.env['PATH'] = path
    assert.deepEqual(namespacesOf(process.pid), [])
  })

  it('have a link that can be cut and restored', () => {
    const hosts = twoHosts()
    const route = (): string => hosts.b.run('ip', 'route', 'get', hosts.a.address)
    hosts.cutLink()
    assert.throws(route, { code: 'ERR_TWO_HOSTS' })
    hosts.healLink()
    hosts.healLink()
    assert.match(route(), /dev eth0/)
  })

  it('send no faster than their limit', () => {
    const { a } = twoHosts()
    const discipline = (): string => a.run('tc', 'qdisc', 'show', 'dev', 'eth0')
    const before = discipline()
    a.limitBandwidth(100e6)
    assert.match(discipline(), /qdisc tbf .* rate 100Mbit/)
    a.limitBandwidth(5000)
    assert.match(discipline(), /qdisc tbf .* rate 5Kbit/)
    a.limitBandwidth(Infinity)
    a.limitBandwidth(Infinity)
    assert.equal(discipline(), before)
    for (const rate of [0, -1, Number.NaN]) {
      assert.throws(() => a.limitBandwidth(rate), { code: 'ERR_TWO_HOSTS' })
    }
  })

  it('can be stopped and continued together', async () => {
    const { a } = twoHosts()
    const child = a.spawn('sh', ['-c', 'echo ready; read line; echo "$line"'])
    const said = (): Promise<unknown[]> => once(child.stdout.setEncoding('utf8'), 'data')
    await said()
    a.signal('SIGSTOP')
    const state = (): string | undefined =>
      /^State:\s+(\w)/m.exec(a.run('cat', `/proc/${child.pid}/status`))?.[1]
    while (state() !== 'T');
    child.stdin.write('hello\n')
    assert.equal(state(), 'T')
    a.signal('SIGCONT')
    assert.deepEqual(await said(), ['hello\n'])
  })

  it('have their own links, in a process that ends with them', async () => {
    const hosts = twoHosts()
    const link = await HostLink.listen(hosts.b, 'tcp:127.0.0.1:1')
    assert.match(link.uri, new RegExp(`^tcp:${hosts.b.address}:\\d+$`))
    await link.change({ cutAfterBytes: Infinity, latencyMs: 1 })
    await assert.rejects(link.change({ target: 'nonsense' }), { code: 'ERR_INVALID_URI' })
    const pids = hosts.b.pids()
    assert.equal(pids.length, 1)
    hosts.b.signal('SIGKILL')
    await assert.rejects(link.cut(), { code: 'ERR_TWO_HOSTS' })
    await link.close()
    await assert.rejects(HostLink.listen(hosts.b, 'nonsense'), { code: 'ERR_INVALID_URI' })
    assert.deepEqual(
      readdirSync('/proc').filter((pid) => pids.includes(Number(pid)) && isAlive(Number(pid))),
      [],
    )
  })
})
