/** A custom machine whose hook throws: the error names the hook and keeps the cause. */
import assert from 'node:assert/strict'
import { MachineError, PostcopyError } from '../../src/errors.js'
import type { Migration } from '../../src/migration/migration.js'
import { ended, postcopy, startPair } from '../support/migration.js'
import { watchWorkers } from '../support/workers.js'
import { TestMachine, type TestMachineOptions } from '../support/test-machine.js'

const blocks = { ram: 2 ** 20 }

/** A machine whose hooks can be replaced by any value, as in JavaScript. */
function machine(hooks: object = {}, options: TestMachineOptions = {}): TestMachine {
  return Object.assign(new TestMachine({ blocks, ...options }), hooks)
}

function running(hooks: object = {}): TestMachine {
  const here = machine(hooks)
  here.fill()
  here.running = true
  return here
}

function hookError(migration: Migration): MachineError {
  const { error } = migration
  assert(error instanceof MachineError, `${error?.constructor.name}: ${error?.message}`)
  assert.equal(error.code, 'ERR_MACHINE_HOOK')
  return error
}

describe('a machine whose hook', () => {
  const thrown = new RangeError('device 7 is upside down')
  const fail = (): never => {
    throw thrown
  }

  for (const hook of ['stop', 'saveDevices'] as const) {
    it(`${hook} throws fails the source with the name of the hook and the error`, async () => {
      const here = running({ [hook]: fail })
      const { source, destination } = await startPair(here, machine())
      await assert.rejects(source.done, MachineError)
      await ended(destination)
      const error = hookError(source)
      assert.equal(error.hook, hook)
      assert.equal(error.cause, thrown)
      assert.match(error.message, new RegExp(`${hook}.*RangeError: device 7 is upside down`))
    })
  }

  it('throws a PostcopyError fails the migration with the code of that error', async () => {
    const refusal = new PostcopyError('ERR_DEVICE_STATE', 'checksum 1, expected 2')
    const there = machine({
      loadDevice: () => {
        throw refusal
      },
    })
    const { destination } = await startPair(running(), there)
    await ended(destination)
    assert(destination.error instanceof MachineError)
    assert.equal(destination.error.code, 'ERR_DEVICE_STATE')
    assert.equal(destination.error.cause, refusal)
  })

  it('stop rejects fails the source in the same way', async () => {
    const here = running({ stop: () => Promise.reject(thrown) })
    const { source, destination } = await startPair(here, machine())
    await ended(destination)
    await ended(source)
    assert.deepEqual([hookError(source).hook, hookError(source).cause], ['stop', thrown])
  })

  it('start throws after a failed migration leaves the guest stopped, with a message', async () => {
    const here = running({ start: fail })
    const there = machine({ loadDevice: fail })
    const { source, destination } = await startPair(here, there, { capabilities: postcopy })
    source.startPostcopy()
    await ended(destination)
    await ended(source)
    assert.equal(source.state, 'failed')
    const error = hookError(source)
    assert.deepEqual([error.hook, error.cause], ['start', thrown])
    assert.match(error.message, /stays stopped here.*the destination failed/)
    assert.equal(here.running, false)
  })

  it('start throws after the migration has failed adds the error to the event', async () => {
    const { promise: stopped, resolve: stop } = gate()
    const workers = watchWorkers()
    const here = running({
      start: fail,
      stop: async () => {
        // Not at the state \`device\`, which is announced before the worker asks for the stop.
        void workers[1]?.terminate()
        await stopped
        here.running = false
      },
    })
    const { source, destination } = await startPair(here, machine())
    const told = new Promise<unknown>((resolve) => {
      source.on('guest', (error) => {
        if (error !== undefined) resolve(error)
      })
    })
    await ended(source)
    await ended(destination)
    stop()
    assert.equal(await told, hookError(source))
    assert.equal(hookError(source).cause, thrown)
  })

  const loading = ['loadDevice', 'finishLoading', 'vcpuThreadIds', 'resumeAfterLoad'] as const
  for (const hook of [...loading, 'checkConfiguration', 'loadOpaque']) {
    for (const capabilities of [{}, postcopy]) {
      const how = Object.keys(capabilities).join() || 'plain precopy'
      it(`${hook} throws ends the destination with the name of the hook and the error, ${how}`, async () => {
        const there = machine({ [hook]: fail })
        const { source, destination } = await startPair(running(), there, { capabilities })
        if (capabilities === postcopy) source.startPostcopy()
        await ended(destination)
        await ended(source)
        const error = hookError(destination)
        assert.deepEqual([error.hook, error.cause], [hook, thrown])
        assert.match(error.message, new RegExp(`${hook}.*device 7 is upside down`))
      })
    }
  }

  it('loadDevice throws reports the device', async () => {
    const { source, destination } = await startPair(running(), machine({ loadDevice: fail }))
    await ended(destination)
    await ended(source)
    assert.match(hookError(destination).message, /loadDevice\("state", 0, 1\)/)
  })

  const late = (): Promise<never> => Promise.reject(new Error('not awaited'))

  for (const hook of ['saveDevices', 'start']) {
    it(`${hook} returns a promise fails: it must be synchronous`, async () => {
      const here = running({ [hook]: late })
      const there = machine(hook === 'start' ? { loadDevice: fail } : {})
      const { source, destination } = await startPair(here, there, { capabilities: postcopy })
      source.startPostcopy()
      await ended(destination)
      await ended(source)
      assert.equal(hookError(source).hook, hook)
      assert.match(hookError(source).message, new RegExp(`${hook}.*promise.*synchronous`))
    })
  }

  for (const hook of [...loading, 'checkConfiguration', 'loadOpaque']) {
    it(`${hook} returns a promise fails: it must be synchronous`, async () => {
      const { source, destination } = await startPair(running(), machine({ [hook]: late }))
      await ended(destination)
      await ended(source)
      assert.equal(hookError(destination).hook, hook)
      assert.match(hookError(destination).message, new RegExp(`${hook}.*promise.*synchronous`))
    })
  }

  const senseless: [hook: 'saveDevices' | 'loadDevice' | 'vcpuThreadIds', value: unknown][] = [
    ['saveDevices', undefined],
    ['saveDevices', [{ idstr: 'x', instanceId: 0, version: 1, data: 'text' }]],
    ['saveDevices', [{ idstr: '', instanceId: 0, version: 1, data: new Uint8Array(1) }]],
    ['saveDevices', [{ idstr: 'x', instanceId: -1, version: 1, data: new Uint8Array(1) }]],
    ['loadDevice', undefined],
    ['loadDevice', -1],
    ['loadDevice', 2 ** 40],
    ['vcpuThreadIds', undefined],
    ['vcpuThreadIds', ['7']],
  ]
  for (const [hook, value] of senseless) {
    it(`${hook} returns ${JSON.stringify(value)} fails with the expected type`, async () => {
      const odd = { [hook]: () => value }
      const isSource = hook === 'saveDevices'
      const pair = await startPair(running(isSource ? odd : {}), machine(isSource ? {} : odd))
      await ended(pair.destination)
      await ended(pair.source)
      const error = hookError(isSource ? pair.source : pair.destination)
      assert.equal(error.hook, hook)
      assert.match(error.message, new RegExp(`${hook}.*returned`))
    })
  }
})

function gate(): { promise: Promise<void>; resolve: () => void } {
  let resolve: () => void = () => undefined
  const promise = new Promise<void>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}
