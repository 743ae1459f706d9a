import assert from 'node:assert/strict'
import { PostcopyError, StateError, StreamError } from '../../src/errors.js'
import type { Guest } from '../../src/guest/index.js'
import type { DeviceState } from '../../src/migration/machine.js'
import { TARGET_PAGE_SIZE } from '../../src/units.js'
import {
  makeGuest,
  moveGuest,
  readBlock,
  readPage,
  regionOf,
  runFor,
  writePage,
} from './support.js'

function stateOf(guest: Guest, idstr: string): DeviceState {
  const state = guest.saveDevices().find((device) => device.idstr === idstr)
  assert(state !== undefined)
  return state
}

function load(guest: Guest, { idstr, instanceId, version, data }: DeviceState): number {
  return guest.loadDevice(idstr, instanceId, version, data)
}

/** A stopped guest, and a blank one with the same RAM and no device state. */
async function pair(): Promise<{ source: Guest; destination: Guest }> {
  const source = await makeGuest({ workload: 'sweep', vcpus: 2 })
  await runFor(source, 100)
  const destination = await makeGuest({ incoming: true, vcpus: 2 })
  for (const name of ['ram', 'ledger'] as const) {
    regionOf(destination, name).write(0, readBlock(source, name))
  }
  return { source, destination }
}

function refused(message: RegExp) {
  return (error: unknown): boolean => {
    assert(error instanceof PostcopyError)
    assert.equal(error.code, 'ERR_DEVICE_STATE')
    assert.match(error.message, message)
    return true
  }
}

describe('device state', () => {
  it('is one section per device, with globalstate last', async () => {
    const { source } = await pair()
    const names = source.saveDevices().map(({ idstr, instanceId }) => `${idstr}/${instanceId}`)
    assert.deepEqual(names, ['vcpu/0', 'vcpu/1', 'queue/0', 'block/0', 'globalstate/0'])
  })

  it('has the same bytes of globalstate as QEMU', async () => {
    const { source } = await pair()
    const { data, version } = stateOf(source, 'globalstate')
    const expected = new Uint8Array(104)
    expected.set([0, 0, 0, 8, ...Buffer.from('running')])
    assert.deepEqual([version, new Uint8Array(data)], [1, expected])
    await source.stop()
    expected.set([0, 0, 0, 7, ...Buffer.from('paused'), 0])
    assert.deepEqual(new Uint8Array(stateOf(source, 'globalstate').data), expected)
  })

  it('that is truncated anywhere is rejected', async () => {
    const { source } = await pair()
    for (const state of source.saveDevices()) {
      const destination = await makeGuest({ incoming: true, vcpus: 2 })
      for (let length = 0; length < state.data.length; length += 1) {
        const data = state.data.subarray(0, length)
        assert.throws(() => load(destination, { ...state, data }), StreamError)
      }
    }
  })

  it('of unknown devices is rejected, with a list of the known ones', async () => {
    const { source } = await pair()
    const destination = await makeGuest({ incoming: true })
    const vcpu1 = source.saveDevices()[1]
    assert(vcpu1 !== undefined)
    const message = /unknown device vcpu\/1: this machine has vcpu\/0, queue\/0, block\/0/
    assert.throws(() => load(destination, vcpu1), refused(message))
  })

  it('of another version, or sent twice, is rejected', async () => {
    const { source, destination } = await pair()
    const queue = stateOf(source, 'queue')
    assert.throws(() => load(destination, { ...queue, version: 2 }), refused(/version 2 instead/))
    load(destination, queue)
    assert.throws(() => load(destination, queue), refused(/it has a state already \(sent twice/))
  })

  it('of a machine of another size is rejected', async () => {
    const { source } = await pair()
    const destination = await makeGuest({ incoming: true, ram: '2M', vcpus: 2 })
    assert.throws(
      () => load(destination, stateOf(source, 'vcpu')),
      refused(/2 vCPUs with 244 pages, this one has 2 with 500/),
    )
    assert.throws(() => load(destination, stateOf(source, 'queue')), refused(/machines differ/))
    assert.throws(() => load(destination, stateOf(source, 'block')), refused(/machines differ/))
  })

  it('of two vCPUs with different workloads is rejected', async () => {
    const { source, destination } = await pair()
    const other = await makeGuest({ workload: 'zipf', vcpus: 2 })
    load(destination, stateOf(source, 'vcpu'))
    const second = other.saveDevices()[1]
    assert(second !== undefined)
    assert.throws(() => load(destination, second), refused(/runs zipf, the others sweep/))
  })

  it('with a position outside its pages, or an unknown workload, is rejected', async () => {
    const { source, destination } = await pair()
    const state = stateOf(source, 'vcpu')
    const far = new Uint8Array(state.data)
    far[8 + 3 + 32 + 8] = 1 // the position's high byte
    assert.throws(() => load(destination, { ...state, data: far }), refused(/outside of its pages/))
    const unknown = new Uint8Array(state.data)
    unknown[8] = 9
    assert.throws(
      () => load(destination, { ...state, data: unknown }),
      refused(/no such workload: 9/),
    )
  })

  it('with an unknown run state is rejected', async () => {
    const { source, destination } = await pair()
    const state = stateOf(source, 'globalstate')
    const data = new Uint8Array(state.data)
    data.set(Buffer.from('sleeping'), 4)
    assert.throws(() => load(destination, { ...state, data }), refused(/unknown run state/))
  })

  it('is needed for every device before the guest can run', async () => {
    const { source, destination } = await pair()
    for (const state of source.saveDevices().slice(0, -2)) load(destination, state)
    assert.throws(
      () => {
        destination.resumeAfterLoad()
      },
      refused(/no state for block\/0, globalstate\/0/),
    )
    const isBlank = (error: unknown) => error instanceof StateError && error.state === 'incoming'
    assert.throws(() => {
      destination.start()
    }, isBlank)
    assert.throws(() => destination.saveDevices(), isBlank)
    await assert.rejects(destination.verify(), isBlank)
  })
})

describe('loading', () => {
  for (const page of [244, 245, 251]) {
    it(`the queue device reads page ${page} of guest RAM and detects a wrong bit`, async () => {
      const { source, destination } = await pair()
      const bytes = readPage(destination, page)
      bytes[5] = (bytes[5] ?? 0) ^ 4
      writePage(destination, page, bytes)
      assert.throws(
        () => load(destination, stateOf(source, 'queue')),
        refused(new RegExp(`ram\\+${page * TARGET_PAGE_SIZE} has checksum`)),
      )
    })
  }

  it('the block device completes its open request in guest RAM', async () => {
    const { source, destination } = await pair()
    const pages = () => [252, 253, 254, 255].map((page) => readPage(destination, page))
    const before = pages()
    load(destination, stateOf(source, 'block'))
    const changed = pages().filter((page, i) => Buffer.compare(page, before[i] ?? page) !== 0)
    assert.equal(changed.length, 1)
    assert.equal(changed[0]?.[11], 1, 'status: done')
  })

  it('the block device detects a request that is not in guest RAM', async () => {
    const { source, destination } = await pair()
    writePage(destination, 254, new Uint8Array(TARGET_PAGE_SIZE))
    assert.throws(() => load(destination, stateOf(source, 'block')), refused(/this page is wrong/))
  })

  it('works again in the next migration', async () => {
    const { source } = await pair()
    let guest = source
    for (let hop = 0; hop < 6; hop += 1) {
      const next = await makeGuest({ incoming: true, vcpus: 2 })
      moveGuest(guest, next)
      next.resumeAfterLoad()
      await next.stop()
      assert.equal((await next.verify()).verified, true)
      guest = next
    }
  })
})
