/** The monitor over a custom machine. */
import assert from 'node:assert/strict'
import { commands } from '../../src/monitor/commands.js'
import { execute } from '../../src/monitor/hmp.js'
import { Monitor, MonitorSession } from '../../src/monitor/index.js'
import { cleanups } from '../support/cleanup.js'
import { TestMachine } from '../support/test-machine.js'

function monitor(incoming = false): Monitor {
  const made = new Monitor(new TestMachine({ blocks: { ram: 2 ** 20 } }), { incoming })
  cleanups.add(() => made.close())
  return made
}

describe('a monitor over any machine', () => {
  it('starts, stops and migrates it', async () => {
    const [here, there] = [monitor(), monitor(true)]
    await execute(here, commands, 'cont')
    assert.equal(here.machine.running, true)
    const incoming = await execute(there, commands, 'migrate_incoming tcp:127.0.0.1:0')
    const { uri } = incoming.data as { uri: string }
    await execute(here, commands, `migrate ${uri}`)
    assert.equal(here.queryMigrate().status, 'completed')
    // Without a return path the source does not wait until the devices are loaded.
    await there.destination?.done
    assert.deepEqual([here.machine.running, there.machine.running], [false, true])
  })

  it('has no commands that the machine does not support', async () => {
    const own = monitor()
    for (const name of ['verify', 'info cpus']) {
      await assert.rejects(execute(own, commands, name), { code: 'ERR_MONITOR_COMMAND' })
    }
    const { text } = await execute(own, commands, 'help')
    assert.doesNotMatch(text, /^verify|^info cpus/m)
    const { commandNames } = new MonitorSession(own, 'text')
    assert.deepEqual(
      ['cont', 'verify', 'info cpus'].map((name) => commandNames.includes(name)),
      [true, false, false],
    )
    assert.throws(() => own.queryCpus(), { code: 'ERR_MONITOR_UNSUPPORTED' })
    assert.throws(() => void own.verify(), { code: 'ERR_MONITOR_UNSUPPORTED' })
  })
})
