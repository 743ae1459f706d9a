/** Guests for tests, closed after each test, and functions that corrupt pages. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { MemoryRegion } from '../../src/kernel/index.js'
import { Guest, type GuestOptions } from '../../src/guest/index.js'
import { TARGET_PAGE_SIZE } from '../../src/units.js'
import { cleanups } from '../support/cleanup.js'

export async function makeGuest(options: Partial<GuestOptions> = {}): Promise<Guest> {
  const guest = await Guest.create({ ram: '1M', ...options })
  cleanups.add(() => guest.close())
  return guest
}

export function regionOf(guest: Guest, name: 'ram' | 'ledger'): MemoryRegion {
  const block = guest.blocks.find((known) => known.name === name)
  if (block === undefined) throw new Error(`no block ${name}`)
  return block.region
}

/** Waits, with a deadline, for an effect of vCPU threads. */
export async function eventually(what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`did not happen in 20 s: ${what}`)
    await sleep(1)
  }
}

/** Runs the guest until each vCPU has done this many touches, and stops it. */
export async function runFor(guest: Guest, touches: number): Promise<void> {
  guest.start()
  await eventually(`${touches} touches`, () =>
    guest.vcpuStats().every((vcpu) => vcpu.touches >= touches),
  )
  await guest.stop()
}

export function readPage(guest: Guest, page: number): Uint8Array {
  const bytes = new Uint8Array(TARGET_PAGE_SIZE)
  regionOf(guest, 'ram').read(page * TARGET_PAGE_SIZE, bytes)
  return bytes
}

export function writePage(guest: Guest, page: number, bytes: Uint8Array): void {
  regionOf(guest, 'ram').write(page * TARGET_PAGE_SIZE, bytes)
}

/** Reads a whole block. */
export function readBlock(guest: Guest, name: 'ram' | 'ledger'): Uint8Array {
  const region = regionOf(guest, name)
  const bytes = new Uint8Array(region.lengthBytes)
  region.read(0, bytes)
  return bytes
}

/** Moves RAM and then devices as a migration does, but without one. */
export function moveGuest(source: Guest, destination: Guest): void {
  for (const name of ['ram', 'ledger'] as const) {
    regionOf(destination, name).write(0, readBlock(source, name))
  }
  loadDevices(source, destination)
}

/**
 * Loads each device state with bytes after it, as in a package: a device must find its own end.
 */
export function loadDevices(source: Guest, destination: Guest): void {
  for (const { idstr, instanceId, version, data } of source.saveDevices()) {
    const rest = new Uint8Array(data.length + 40).fill(0xee)
    rest.set(data)
    const consumed = destination.loadDevice(idstr, instanceId, version, rest)
    if (consumed !== data.length) {
      throw new Error(`${idstr} saved ${data.length} bytes and loaded ${consumed}`)
    }
  }
}
