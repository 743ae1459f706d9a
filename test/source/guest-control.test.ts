import assert from 'node:assert/strict'
import { StateError } from '../../src/errors.js'
import type { MigratableMachine } from '../../src/migration/machine.js'
import { GuestControl } from '../../src/source/guest-control.js'

class Machine implements MigratableMachine {
  readonly machineType = 'test'
  readonly blocks = []
  running = true
  readonly log: string[]

  constructor(log: string[]) {
    this.log = log
  }

  start(): void {
    this.log.push('start')
    this.running = true
  }

  stop(): Promise<void> {
    this.log.push('stop')
    this.running = false
    return Promise.resolve()
  }

  saveDevices: MigratableMachine['saveDevices'] = () => {
    this.log.push('saveDevices')
    return []
  }

  loadDevice(): number {
    return 0
  }

  resumeAfterLoad(): void {
    // Never loaded.
  }

  vcpuThreadIds(): number[] {
    return []
  }
}

function control(change: (machine: Machine) => void = () => undefined) {
  const log: string[] = []
  const machine = new Machine(log)
  change(machine)
  const said = (error: unknown): string => (error instanceof Error ? error.message : String(error))
  const guest = new GuestControl(machine, {
    changed: (error) => void log.push(error === undefined ? 'changed' : `changed: ${said(error)}`),
    saved: (devices) => void log.push(`saved ${devices.length}`),
    failed: (error) => void log.push(`failed: ${said(error)}`),
    startedMeanwhile: () => new StateError('ERR_STATE_RUNNING', 'it runs again', 'active'),
  })
  return { guest, machine, log }
}

describe('GuestControl', () => {
  it('saves the devices of the stopped guest', async () => {
    const { guest, log } = control()
    await guest.stop()
    assert.deepEqual(log, ['stop', 'changed', 'saveDevices', 'saved 0'])
  })

  it('starts the guest again that it has stopped, once', async () => {
    const { guest, log, machine } = control()
    await guest.stop()
    log.length = 0
    guest.resume()
    assert.deepEqual(log, ['start', 'changed'])
    machine.running = false
    guest.resume()
    assert.deepEqual(log, ['start', 'changed', 'changed'])
  })

  it('does not start a guest that its owner had stopped', async () => {
    const { guest, log } = control((machine) => {
      machine.running = false
    })
    await guest.stop()
    log.length = 0
    guest.resume()
    assert.deepEqual(log, ['changed'])
  })

  it('does not start a guest that was never asked to stop', () => {
    const { guest, log } = control()
    guest.resume()
    assert.deepEqual(log, ['changed'])
  })

  it('starts a guest only after it has stopped, if it stays here meanwhile', async () => {
    const { guest, log } = control()
    const stopped = guest.stop()
    guest.resume()
    guest.resume()
    assert.deepEqual(log, ['stop'])
    await stopped
    assert.deepEqual(log, ['stop', 'changed', 'saveDevices', 'saved 0', 'start', 'changed'])
  })

  it('fails once if the guest does not stop, and starts it again', async () => {
    const { guest, log } = control((machine) => {
      machine.stop = () => {
        machine.running = false
        return Promise.reject(new Error('vCPU 0 runs'))
      }
    })
    await guest.stop()
    assert.equal(log.length, 1)
    assert.match(log[0] ?? '', /^failed: .*stop\(\).*vCPU 0 runs/)
    guest.resume()
    assert.deepEqual(log.slice(1), ['start', 'changed'])
  })

  it('saves nothing of a guest that runs again', async () => {
    const { guest, log } = control((machine) => {
      machine.stop = () => Promise.resolve()
    })
    await guest.stop()
    assert.deepEqual(log, ['changed', 'failed: it runs again (state active)'])
  })

  it('fails if the saved devices are none', async () => {
    const { guest, log } = control((machine) => {
      machine.saveDevices = () => [null] as never
    })
    await guest.stop()
    assert.deepEqual(log.slice(0, 2), ['stop', 'changed'])
    assert.match(log[2] ?? '', /^failed: .*saveDevices/)
  })

  it('reports why a guest that stays here does not start', async () => {
    const { guest, log } = control((machine) => {
      machine.start = () => {
        throw new Error('no memory')
      }
    })
    await guest.stop()
    guest.resume()
    assert.match(log.at(-1) ?? '', /^changed: .*start\(\).*no memory/)
    guest.resume()
    assert.equal(log.at(-1), 'changed', 'reported once')
  })

  it('does not start a guest of which it never knew that it ran', async () => {
    const { guest, log } = control((machine) => {
      Object.defineProperty(machine, 'running', {
        get: () => {
          throw new Error('no answer')
        },
      })
    })
    await guest.stop()
    guest.resume()
    assert.match(log[0] ?? '', /^failed: .*running/)
    assert.deepEqual(log.slice(1), ['changed'])
  })

  it('stops a guest in a second migration after a failed one', async () => {
    const { guest, log } = control()
    await guest.stop()
    guest.resume()
    log.length = 0
    await guest.stop()
    assert.deepEqual(log, ['stop', 'changed', 'saveDevices', 'saved 0'])
  })
})
