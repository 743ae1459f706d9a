import assert from 'node:assert/strict'
import { constants } from 'node:os'
import type { DestinationBlock } from '../../src/destination/block.js'
import { Placement } from '../../src/destination/placement.js'
import { PeerError } from '../../src/errors.js'
import { type MemoryRegion, type Userfaultfd, kernelError } from '../../src/kernel/index.js'
import { createCounters } from '../../src/migration/counters.js'
import { openUffd } from '../support/park.js'
import { concat, pageRecord } from '../support/records.js'
import { destinationBlock } from './support.js'

const PAGES = 8

interface Rig {
  region: MemoryRegion
  placement: Placement
  target: DestinationBlock
}

/** One RAM block of 8 target pages, with host pages of `hostPages` target pages. */
function rig(hostPages: number): Rig {
  const target = destinationBlock(PAGES, hostPages)
  return {
    region: target.block.region,
    target,
    placement: new Placement([target], createCounters()),
  }
}

/** The same, armed, with no page received. */
function armed(hostPages: number): Rig & { uffd: Userfaultfd } {
  const made = rig(hostPages)
  const uffd = openUffd()
  made.target.discarded.setRange(0, PAGES)
  made.placement.arm(uffd)
  return { ...made, uffd }
}

function refuseWithEexist(uffd: Userfaultfd): void {
  uffd.copy = () => {
    throw kernelError(-constants.errno.EEXIST, 'ioctl', 'UFFDIO_COPY')
  }
}

const hostPage = concat([
  pageRecord(0, new Uint8Array(4096).fill(1)),
  pageRecord(1, new Uint8Array(4096).fill(2)),
])

describe('Placement', () => {
  it('does not arm if a page is in neither set, even if another page is in both', () => {
    const { placement, target } = rig(1)
    target.received.setRange(0, 3)
    target.discarded.setRange(2, PAGES - 1)
    assert.throws(
      () => placement.arm(openUffd()),
      (error) =>
        error instanceof PeerError &&
        error.code === 'ERR_PEER_DISCARD' &&
        error.message.includes(`the page at ${(PAGES - 1) * 4096} was neither sent`),
    )
  })

  it('arms if a page was sent and then discarded', () => {
    const { placement, target } = rig(1)
    target.received.setRange(0, 3)
    target.discarded.setRange(1, PAGES)
    placement.arm(openUffd())
    placement.disarm()
  })

  it('counts a host page as received if the kernel reports it as present, and only then', () => {
    const { uffd, region, placement, target } = armed(2)
    uffd.zeropage(region.address, 8192)
    placement.records('main', target, hostPage, 0, hostPage.length)
    assert.equal(target.received.count(0, 2), 2)
    placement.disarm()
  })

  it('does not count a missing host page as received after EEXIST', () => {
    const { uffd, placement, target } = armed(2)
    refuseWithEexist(uffd)
    assert.throws(() => placement.records('main', target, hostPage, 0, hostPage.length), {
      code: 'ENOMEM',
      message: /"ram" \+ 0.*no huge page.*nr_hugepages/s,
    })
    assert.equal(target.received.count(), 0)
    placement.disarm()
  })

  it('does not count a missing zero page as placed after EEXIST', () => {
    const { uffd, placement, target } = armed(2)
    target.received.setRange(0, 2)
    target.zeroed.setRange(0, 2)
    refuseWithEexist(uffd)
    assert.throws(() => placement.resolveReceived(target, 0), { code: 'ENOMEM' })
    assert.equal(target.zeroed.all(0, 2), true)
    placement.disarm()
  })

  it('does not count a partly placed host page as received', () => {
    const { uffd, placement, target } = armed(2)
    uffd.copy = () => 4096
    assert.throws(() => placement.records('main', target, hostPage, 0, hostPage.length), {
      code: 'EAGAIN',
    })
    assert.equal(target.received.count(), 0)
    placement.disarm()
  })
})
