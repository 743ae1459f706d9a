import assert from 'node:assert/strict'
import type { DestinationBlock } from '../../src/destination/block.js'
import { FaultLog, createFaultLog, reportFaults } from '../../src/destination/fault-log.js'
import { FaultService } from '../../src/destination/fault-service.js'
import { Placement } from '../../src/destination/placement.js'
import { UffdEvent } from '../../src/kernel/index.js'
import { createCounters } from '../../src/migration/counters.js'
import { openUffd } from '../support/park.js'
import { discardedBlock, faultAt, injectFaults, type FaultMessage, PAGE } from './support.js'

/** A service of armed blocks, whose messages come from the test. */
function serve(...targets: readonly DestinationBlock[]) {
  const uffd = openUffd()
  const counters = createCounters()
  const placement = new Placement(targets, counters)
  placement.arm(uffd)
  const shared = createFaultLog()
  const requests: string[] = []
  const service = new FaultService(
    uffd,
    targets,
    placement,
    counters,
    new FaultLog(shared),
    ({ block }, offset) => void requests.push(`${block.name}:${offset / PAGE}`),
  )
  const fail = (error: unknown): void => assert.fail(String(error))
  service.start(() => undefined, fail)
  return {
    uffd,
    counters,
    service,
    requests,
    faultsLogged: () => reportFaults(shared).count,
    /** Handles these messages as after a read from the source's connection. */
    faults: (...messages: readonly FaultMessage[]): void => {
      injectFaults(uffd, ...messages)
      service.drain()
    },
  }
}

describe('FaultService', () => {
  it('requests each missing page once, in the order of the faults', () => {
    const [ram, rom] = [discardedBlock(8), discardedBlock(8, 1, 'rom')]
    const { faults, requests, counters, service } = serve(ram, rom)
    faults(faultAt(ram, 7), faultAt(rom, 2), faultAt(ram, 7, 2), faultAt(ram, 0))
    faults(faultAt(rom, 2, 3))
    assert.deepEqual(requests, ['ram:7', 'rom:2', 'ram:0'])
    const { faults: all, requestedPages, duplicateFaults, localFaults } = counters
    assert.deepEqual([all, requestedPages, duplicateFaults, localFaults], [5, 3, 2, 0])
    assert.equal(service.waiting, 5, 'each thread waits')
  })

  it('requests the whole host page of an address', () => {
    const ram = discardedBlock(16, 4)
    const { faults, requests, counters } = serve(ram)
    faults({ address: faultAt(ram, 7).address + 123, threadId: 1 }, faultAt(ram, 4))
    assert.deepEqual(requests, ['ram:4'])
    assert.deepEqual([...ram.requested.runs()], [[4, 8]])
    assert.deepEqual([counters.requestedPages, counters.duplicateFaults], [1, 1])
  })

  it('requests a host page of which only a part was received', () => {
    const ram = discardedBlock(8, 4)
    const { faults, requests } = serve(ram)
    ram.received.setRange(0, 3)
    faults(faultAt(ram, 0))
    assert.deepEqual(requests, ['ram:0'])
  })

  it('requests no page that was received, and places it if it is a zero page', () => {
    const ram = discardedBlock(8)
    const { faults, requests, counters, service } = serve(ram)
    ram.received.setRange(2, 4)
    ram.zeroed.set(3)
    faults(faultAt(ram, 2), faultAt(ram, 3))
    assert.deepEqual(requests, [])
    assert.deepEqual([counters.localFaults, counters.requestedPages, service.waiting], [2, 0, 0])
    assert.equal(ram.zeroed.count(), 0)
    assert.deepEqual([...ram.block.region.mincore(2 * PAGE, 2 * PAGE)], [0, 1])
  })

  it('removes the waiters whose pages were placed, and logs their waits', () => {
    const ram = discardedBlock(8)
    const { faults, service, faultsLogged } = serve(ram)
    faults(faultAt(ram, 1, 10), faultAt(ram, 2, 11), faultAt(ram, 1, 12), faultAt(ram, 3, 13))
    service.settle()
    assert.deepEqual([service.waiting, faultsLogged()], [4, 0])
    ram.received.set(1)
    service.settle()
    assert.deepEqual([service.waiting, faultsLogged()], [2, 2])
    service.settle()
    assert.deepEqual([service.waiting, faultsLogged()], [2, 2], 'nothing has arrived')
    ram.received.set(3)
    service.settle()
    assert.deepEqual([service.waiting, faultsLogged()], [1, 3])
    ram.received.set(2)
    service.settle()
    assert.deepEqual([service.waiting, faultsLogged()], [0, 4])
  })

  it('keeps any number of waiters', () => {
    const ram = discardedBlock(300)
    const { faults, service, faultsLogged } = serve(ram)
    for (let page = 0; page < 300; page += 100) {
      const messages = Array.from({ length: 100 }, (_, index) => faultAt(ram, page + index, index))
      faults(...messages)
    }
    assert.equal(service.waiting, 300)
    ram.received.setRange(1, 300)
    service.settle()
    assert.deepEqual([service.waiting, faultsLogged()], [1, 299])
  })

  it('serves the last page of a block, and rejects an address after it', () => {
    const ram = discardedBlock(8)
    const { faults, requests } = serve(ram)
    faults({ address: faultAt(ram, 8).address - 1, threadId: 1 })
    assert.deepEqual(requests, ['ram:7'])
    assert.throws(() => faults(faultAt(ram, 8)), { code: 'ERR_FAULT_ADDRESS' })
  })

  it('ignores messages that are no page faults', () => {
    const ram = discardedBlock(8)
    const { faults, requests, counters } = serve(ram)
    faults({ ...faultAt(ram, 1), type: UffdEvent.REMOVE }, faultAt(ram, 2))
    assert.deepEqual([requests, counters.faults], [['ram:2'], 1])
  })

  it('reads no message after it was stopped', () => {
    const ram = discardedBlock(8)
    const { faults, requests, service } = serve(ram)
    service.stop()
    faults(faultAt(ram, 1))
    assert.deepEqual(requests, [])
  })

  it('requests again what was requested and not received, after a restart', () => {
    const ram = discardedBlock(8)
    const { faults, requests, service } = serve(ram)
    faults(faultAt(ram, 1), faultAt(ram, 2))
    ram.received.set(1)
    service.stop()
    service.restart(
      () => undefined,
      (error) => assert.fail(String(error)),
    )
    assert.deepEqual([...ram.requested.runs()], [[1, 2]])
    faults(faultAt(ram, 1), faultAt(ram, 2))
    assert.deepEqual(requests, ['ram:1', 'ram:2', 'ram:2'])
  })

  it('reports a message that it cannot handle, and no batch for it', () => {
    const ram = discardedBlock(8)
    const { uffd, service } = serve(ram)
    service.stop()
    let read: (count: number) => void = () => undefined
    uffd.watch = (listener) => {
      read = listener
      return () => undefined
    }
    const log: unknown[] = []
    service.start(
      () => log.push('batch'),
      (error) => log.push(error instanceof Error && error.message),
    )
    injectFaults(uffd, faultAt(ram, 3))
    read(uffd.read())
    injectFaults(uffd, { address: 0x1000, threadId: 1 })
    read(uffd.read())
    assert.deepEqual(log, ['batch', 'a fault at 0x1000 is outside all RAM blocks'])
  })
})
