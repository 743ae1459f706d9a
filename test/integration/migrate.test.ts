import assert from 'node:assert/strict'
import { Destination } from '../../src/destination/destination.js'
import type { MigrationOptions } from '../../src/migration/options.js'
import { Source } from '../../src/source/source.js'
import { cleanups } from '../support/cleanup.js'
import { TestMachine, type TestMachineOptions } from '../support/test-machine.js'

async function migrate(
  options: MigrationOptions & { machine?: TestMachineOptions; now?: boolean },
) {
  const here = new TestMachine(options.machine)
  const there = new TestMachine(options.machine)
  here.fill()
  here.start()
  const { capabilities = {}, parameters = {} } = options
  const destination = await Destination.listen(there, { uri: 'tcp:127.0.0.1:0', capabilities })
  cleanups.add(() => destination.close())
  const source = Source.migrate(here, { uri: destination.uri, capabilities, parameters })
  cleanups.add(() => source.close())
  const states: Record<'source' | 'destination', string[]> = {
    source: [],
    destination: [destination.state],
  }
  source.on('state', (state) => states.source.push(state))
  destination.on('state', (state) => states.destination.push(state))
  if (options.now === true) source.startPostcopy()
  await Promise.all([source.done, destination.done])
  return { here, there, source, destination, states }
}

describe('migration', () => {
  it('transfers a machine by plain precopy', async () => {
    const { here, there, states } = await migrate({})
    assert.deepEqual(states.source, ['setup', 'active', 'device', 'completed'])
    assert.deepEqual(states.destination, ['setup', 'active', 'completed'])
    assert(here.content('ram').equals(there.content('ram')))
    assert(here.content('vram').equals(there.content('vram')))
    assert.deepEqual([here.running, there.running], [false, true])
  })

  it('transfers blocks and a machine type with names in UTF-8, of 255 bytes, and in no encoding', async () => {
    const blocks = { Größe: 65536, 内存: 65536, ['é'.repeat(127) + 'x']: 65536, 'a\udcff': 65536 }
    for (const now of [false, true]) {
      const { here, there } = await migrate({
        machine: { machineType: 'Maschine ä', blocks },
        capabilities: { 'postcopy-ram': true },
        now,
      })
      for (const name of Object.keys(blocks)) {
        assert(here.content(name).equals(there.content(name)), name)
      }
    }
  })

  it('transfers a machine by postcopy from the start', async () => {
    const { here, there, states, source } = await migrate({
      capabilities: { 'postcopy-ram': true },
      now: true,
    })
    assert.deepEqual(states.source, [
      'setup',
      'active',
      'device',
      'postcopy-device',
      'postcopy-active',
      'completed',
    ])
    assert.deepEqual(states.destination, [
      'setup',
      'active',
      'postcopy-device',
      'postcopy-active',
      'completed',
    ])
    assert(here.content('ram').equals(there.content('ram')))
    assert(here.content('vram').equals(there.content('vram')))
    assert.equal(source.counters.discardedPages, 2560)
  })
})
