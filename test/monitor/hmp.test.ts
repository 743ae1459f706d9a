import assert from 'node:assert/strict'
import { commands } from '../../src/monitor/commands.js'
import { splitLine, usage } from '../../src/monitor/hmp.js'
import type { Monitor } from '../../src/monitor/index.js'
import { monitorOver, type } from './support.js'

describe('HMP lines', () => {
  const lines: readonly (readonly [string, readonly string[]])[] = [
    ['', []],
    ['  info   migrate ', ['info', 'migrate']],
    ['migrate -d "unix:/a b/c"', ['migrate', '-d', 'unix:/a b/c']],
    [String.raw`x "a \"quoted\" \\ one"`, ['x', String.raw`a "quoted" \ one`]],
    ['x ""', ['x', '']],
  ]
  for (const [line, words] of lines) {
    it(`splits ${JSON.stringify(line)}`, () => assert.deepEqual(splitLine(line), words))
  }

  it('rejects an unclosed quotation mark', () => {
    assert.throws(() => splitLine('migrate "tcp:'), { code: 'ERR_MONITOR_ARGUMENT' })
  })
})

describe('HMP commands', () => {
  let monitor: Monitor
  beforeEach(async () => {
    monitor = await monitorOver()
  })

  const refused: readonly (readonly [string, string, RegExp])[] = [
    ['migrat', 'ERR_MONITOR_COMMAND', /unknown command "migrat": did you mean migrate\?/],
    ['info migrat', 'ERR_MONITOR_COMMAND', /did you mean info migrate\?/],
    ['xyzzy', 'ERR_MONITOR_COMMAND', /unknown command "xyzzy": help lists the commands/],
    ['help xyzzy', 'ERR_MONITOR_COMMAND', /unknown command "xyzzy"/],
    ['migrate', 'ERR_MONITOR_ARGUMENT', /migrate needs URI; usage: migrate \[-d\] \[-r\] URI/],
    ['migrate -x tcp:a:1', 'ERR_MONITOR_ARGUMENT', /no flag -x/],
    ['migrate tcp:a:1 tcp:b:2', 'ERR_MONITOR_ARGUMENT', /"tcp:b:2" is one argument too many/],
    ['migrate udp:a:1', 'ERR_INVALID_URI', /tcp:HOST:PORT or unix:PATH/],
    [`migrate -r tcp:127.0.0.1:1`, 'ERR_STATE_RECOVER', /only a migration that is postcopy-paused/],
    [
      `migrate_recover tcp:127.0.0.1:0`,
      'ERR_STATE_RECOVER',
      /only a migration that is postcopy-pa/,
    ],
    [
      'migrate_incoming tcp:127.0.0.1:0',
      'ERR_STATE_NOT_INCOMING',
      /start the destination with --incoming/,
    ],
    ['migrate_set_capability postcopy-ram', 'ERR_MONITOR_ARGUMENT', /needs on\|off/],
    ['migrate_set_capability postcopy-ram yes', 'ERR_MONITOR_ARGUMENT', /neither on nor off/],
    ['migrate_set_capability rdma on', 'ERR_UNKNOWN_CAPABILITY', /there are: postcopy-ram/],
    ['migrate_set_parameter speed 1', 'ERR_UNKNOWN_PARAMETER', /there are: max-bandwidth/],
    ['migrate_set_parameter max-bandwidth fast', 'ERR_INVALID_SIZE', /is not a size/],
    ['migrate_set_parameter downtime-limit 1.5', 'ERR_INVALID_PARAMETER', /not a whole number/],
    ['migrate_set_parameter downtime-limit 9999999', 'ERR_INVALID_PARAMETER', /from 0 to 2000000/],
    ['migrate_start_postcopy', 'ERR_STATE_POSTCOPY_OFF', /set the capability postcopy-ram/],
    ['info page_arrivals many', 'ERR_MONITOR_ARGUMENT', /number of cells/],
  ]
  for (const [line, code, message] of refused) {
    it(`refuse "${line}"`, async () => {
      await assert.rejects(type(monitor, line), { code, message })
    })
  }

  it('do nothing for an empty line', async () => assert.equal(await type(monitor, '  '), ''))

  it('are all listed by help, each with its usage', async () => {
    const text = await type(monitor, 'help')
    for (const command of commands) assert(text.includes(usage(command)), command.name)
    assert.equal(text.split('\n').length, commands.length)
  })

  it('are explained one by one', async () => {
    assert.match(
      await type(monitor, 'help migrate_incoming'),
      /^migrate_incoming URI {2}listen for/,
    )
    assert.match(await type(monitor, '? info status'), /^info status {2}\w/)
    assert.equal(await type(monitor, 'help info'), await type(monitor, 'info'))
  })

  it("set a capability, also by QEMU's first name for it", async () => {
    const off = await type(monitor, 'info migrate_capabilities')
    assert.match(off, /^postcopy-ram: off$/m)
    await type(monitor, 'migrate_set_capability x-postcopy-ram on')
    assert.match(await type(monitor, 'info migrate_capabilities'), /^postcopy-ram: on$/m)
  })

  const values: readonly (readonly [string, string, string])[] = [
    ['max-bandwidth', '32', '33554432 bytes/second'],
    ['max-bandwidth', '1.5', '1572864 bytes/second'],
    ['max-bandwidth', '100M', '104857600 bytes/second'],
    ['max-bandwidth', '1G', '1073741824 bytes/second'],
    ['max-bandwidth', '0', '0 bytes/second'],
    ['max-postcopy-bandwidth', '4096', '4096 bytes/second'],
    ['max-postcopy-bandwidth', '1M', '1048576 bytes/second'],
    ['downtime-limit', '50', '50 ms'],
    ['tls-hostname', 'there', "'there'"],
    ['tls-hostname', '""', "''"],
  ]
  for (const [name, given, shown] of values) {
    it(`set ${name} to ${given} as QEMU reads it`, async () => {
      await type(monitor, `migrate_set_parameter ${name} ${given}`)
      const lines = (await type(monitor, 'info migrate_parameters')).split('\n')
      assert(lines.includes(`${name}: ${shown}`), lines.join('\n'))
    })
  }

  it('stop and start the guest', async () => {
    assert.equal(await type(monitor, 'info status'), 'VM status: paused')
    assert.equal(await type(monitor, 'cont', 'info status'), 'VM status: running')
    assert.equal(await type(monitor, 'cont', 'stop', 's', 'info status'), 'VM status: paused')
  })

  it('check the content of a stopped guest only', async () => {
    assert.match(await type(monitor, 'verify'), /^content: good\nchecked: 2048 pages\nlost: 0/)
    await assert.rejects(type(monitor, 'cont', 'verify'), /stop the guest first/)
  })

  it('show the vCPUs', async () => {
    assert.match(await type(monitor, 'info cpus'), /^CPU #0: thread_id=\d+ \w+, \d+ touches/)
  })

  it('show nothing before a migration', async () => {
    assert.equal(await type(monitor, 'info migrate'), '')
    assert.equal(await type(monitor, 'info page_arrivals'), '')
    assert.equal(await type(monitor, 'migrate_cancel'), '')
  })

  it('request the end of the process from its owner', async () => {
    let asked = 0
    monitor.on('quit', () => (asked += 1))
    await type(monitor, 'quit', 'q')
    assert.equal(asked, 2)
  })
})
