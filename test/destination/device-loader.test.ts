import assert from 'node:assert/strict'
import { Claim } from '../../src/destination/claim.js'
import { DeviceLoader } from '../../src/destination/device-loader.js'
import { type ErrorRecord, errorToRecord } from '../../src/errors.js'
import type { MigratableMachine } from '../../src/migration/machine.js'
import { PingValue, encodePackage } from '../../src/stream/index.js'
import { encodeDevices } from '../../src/source/elements.js'

const { devicesLoaded, packageLoaded } = PingValue

const device = (idstr: string, ...data: number[]) => ({
  idstr,
  instanceId: 0,
  version: 1,
  data: Uint8Array.from(data),
})

/** Sections of two devices with two bytes of state each. */
const devices = encodeDevices([device('cpu', 1, 2), device('rtc', 3, 4)], 2)
const packaged = encodePackage(devices)

/** A loader of a machine that logs the calls of its methods, changed by `changes`. */
function loader(changes: Partial<MigratableMachine> = {}, { isEnded = false } = {}) {
  const log: string[] = []
  const claim = new Claim()
  const machine: MigratableMachine = {
    machineType: 'test',
    blocks: [],
    running: false,
    start: () => void log.push('start'),
    stop: () => {
      log.push('stop')
      return Promise.resolve()
    },
    saveDevices: () => [],
    loadDevice: (idstr, _instanceId, _version, data) => {
      log.push(`${idstr} ${data.slice(0, 2).join()}`)
      return 2
    },
    finishLoading: () => void log.push('finishLoading'),
    resumeAfterLoad: () => void log.push('resumeAfterLoad'),
    vcpuThreadIds: () => [7, 8],
    ...changes,
  }
  const errors: ErrorRecord[] = []
  const loading = new DeviceLoader(machine, claim, {
    post: (request) => {
      if (request.type === 'load-failed') errors.push(request.error)
      log.push(request.type === 'pong' ? `pong ${request.value}` : request.type)
    },
    state: () => 'postcopy-device',
    isEnded: () => isEnded,
    setVcpus: (threadIds) => void log.push(`vcpus ${threadIds.join()}, ${claim.state}`),
    record: (error) => errorToRecord(error),
  })
  claim.beginLoading()
  return { loading, claim, log, errors }
}

const failing = (text: string) => (): never => {
  throw new Error(text)
}

const loadedDevices = ['cpu 1,2', 'rtc 3,4']
const claimed = ['finishLoading', 'vcpus 7,8, loading']

describe('DeviceLoader with a package', () => {
  it('answers each ping after everything before it is loaded, and then runs the guest', () => {
    const { loading, claim, log } = loader()
    loading.loadPackage(packaged, 100)
    assert.deepEqual(log, [
      ...loadedDevices,
      `pong ${devicesLoaded}`,
      ...claimed,
      `pong ${packageLoaded}`,
      'resumeAfterLoad',
      'guest-running',
    ])
    assert.equal(claim.state, 'running')
  })

  it('takes the guest once, at its run, if the source does not ask whether all is loaded', () => {
    const { loading, log } = loader()
    loading.loadPackage(encodePackage(devices, [devicesLoaded]), 0)
    assert.deepEqual(log.slice(2), [
      `pong ${devicesLoaded}`,
      ...claimed,
      'resumeAfterLoad',
      'guest-running',
    ])
  })

  it('gives the guest back if a device fails, and loads nothing more', () => {
    const { loading, claim, log, errors } = loader({ loadDevice: failing('no such device') })
    loading.loadPackage(packaged, 0)
    loading.loadPackage(packaged, 0)
    loading.loadDevices(devices, 0)
    assert.deepEqual(log, ['load-failed'])
    assert.equal(claim.state, 'lost')
    assert.match(errors[0]?.message ?? '', /loadDevice\("cpu", 0, 1\).*no such device/s)
    assert.doesNotMatch(errors[0]?.message ?? '', /QEMU before 10.2/)
  })

  it('tells what it means at a source that does not wait for its devices', () => {
    const { loading, errors } = loader({ loadDevice: failing('no such device') })
    loading.loadPackage(encodePackage(devices, [devicesLoaded]), 0)
    assert.match(errors[0]?.message ?? '', /no such device.*QEMU before 10\.2 does not/s)
  })

  it('loads nothing of a package that is not complete', () => {
    const { loading, log, errors } = loader()
    loading.loadPackage(packaged.subarray(0, -1), 0)
    assert.deepEqual(log, ['load-failed'])
    assert.match(errors[0]?.code ?? '', /^ERR_STREAM_/)
  })

  it('rejects a device that takes more than there is', () => {
    const { loading, log, errors } = loader({ loadDevice: () => 1e6 })
    loading.loadPackage(packaged, 0)
    assert.deepEqual(log, ['load-failed'])
    assert.equal(errors[0]?.kind, 'machine')
    assert.match(errors[0].message, /1000000/)
  })

  it('answers nothing if the machine is incomplete', () => {
    const { loading, log, claim } = loader({ finishLoading: failing('no disk') })
    loading.loadPackage(packaged, 0)
    assert.deepEqual(log, [...loadedDevices, `pong ${devicesLoaded}`, 'load-failed'])
    assert.equal(claim.state, 'lost')
  })

  it('answers nothing if the worker has given the guest back meanwhile', () => {
    const { loading, log, claim, errors } = loader({ finishLoading: () => void claim.giveBack() })
    loading.loadPackage(packaged, 0)
    assert.deepEqual(log.slice(2), [`pong ${devicesLoaded}`, 'vcpus 7,8, lost', 'load-failed'])
    assert.equal(errors[0]?.code, 'ERR_STATE_MIGRATION_LOST')
  })

  it('keeps a guest that does not start, stopped, and reports why', async () => {
    const { loading, log, claim } = loader({ resumeAfterLoad: failing('no vCPU') })
    loading.loadPackage(packaged, 0)
    await Promise.resolve()
    assert.deepEqual(log.slice(-3), [`pong ${packageLoaded}`, 'stop', 'guest-running'])
    assert.equal(claim.state, 'running')
    assert.match(loading.startFailure?.message ?? '', /no vCPU/)
  })

  it('goes on if a guest that did not start cannot be stopped', async () => {
    const { loading, log } = loader({
      resumeAfterLoad: failing('no vCPU'),
      stop: () => Promise.reject(new Error('no stop')),
    })
    loading.loadPackage(packaged, 0)
    await new Promise(setImmediate)
    assert.deepEqual(log.slice(-1), ['guest-running'])
    assert.match(loading.startFailure?.message ?? '', /no vCPU/)
  })

  it('touches no machine once its owner has ended the migration', () => {
    const { loading, log } = loader({}, { isEnded: true })
    loading.loadPackage(packaged, 0)
    loading.loadDevices(devices, 0)
    loading.checkConfiguration('test', new Uint8Array())
    assert.deepEqual(log, [])
  })

  it('gives a machine that does not know the devices all sections at once', () => {
    const sections: Uint8Array[] = []
    const { loading, log } = loader({ loadOpaque: (bytes) => void sections.push(bytes.slice()) })
    loading.loadPackage(packaged, 0)
    assert.deepEqual(sections, [devices])
    assert.deepEqual(log, [
      `pong ${devicesLoaded}`,
      ...claimed,
      `pong ${packageLoaded}`,
      'resumeAfterLoad',
      'guest-running',
    ])
  })
})

describe('DeviceLoader after a precopy', () => {
  it('loads the devices and runs the guest', () => {
    const { loading, log, claim } = loader()
    loading.loadDevices(devices, 0)
    assert.deepEqual(log, [...loadedDevices, ...claimed, 'resumeAfterLoad', 'guest-running'])
    assert.equal(claim.state, 'running')
  })

  it('runs a guest without devices', () => {
    const { loading, log } = loader()
    loading.loadDevices(new Uint8Array(), 0)
    assert.deepEqual(log, [...claimed, 'resumeAfterLoad', 'guest-running'])
  })

  it('needs no finishLoading', () => {
    const { loading, log } = loader()
    const { loading: without, log: logWithout } = loader({ finishLoading: () => undefined })
    loading.loadDevices(devices, 0)
    without.loadDevices(devices, 0)
    assert.deepEqual(
      logWithout,
      log.filter((one) => one !== 'finishLoading'),
    )
  })

  it('gives all sections to a machine that does not know the devices', () => {
    const sections: Uint8Array[] = []
    const { loading } = loader({ loadOpaque: (bytes) => void sections.push(bytes.slice()) })
    loading.loadDevices(devices, 0)
    assert.deepEqual(sections, [devices])
  })
})

describe('DeviceLoader with a configuration', () => {
  it('asks the machine', () => {
    const asked: unknown[] = []
    const { loading, log } = loader({
      checkConfiguration: (...args) => void asked.push(args),
    })
    const raw = Uint8Array.of(1)
    loading.checkConfiguration('pc', raw)
    assert.deepEqual(asked, [['pc', raw]])
    assert.deepEqual(log, [])
  })

  it('rejects the guest with the error of the machine, and then loads nothing', () => {
    const { loading, log, claim } = loader({ checkConfiguration: failing('another machine') })
    loading.checkConfiguration('pc', new Uint8Array())
    loading.loadPackage(packaged, 0)
    assert.deepEqual(log, ['load-failed'])
    assert.equal(claim.state, 'lost')
  })
})
