/** A destination of ours, and a scripted source that is connected to it. */
import assert from 'node:assert/strict'
import type { Destination, DestinationOptions } from '../../src/destination/destination.js'
import type { MigrationState } from '../../src/migration/states.js'
import { encodeEndOfStream } from '../../src/stream/index.js'
import { FakeSource, allPages, discardAll, packageOf, prologue, ramEnd } from './fake-peer.js'
import { ended, listenFor, postcopy, reached, statesOf } from './migration.js'
import { TestMachine, type TestMachineOptions } from './test-machine.js'

export const blocks = { ram: 2 ** 18, vram: 2 ** 16 }

export interface Case {
  readonly sent: TestMachine
  readonly machine: TestMachine
  readonly destination: Destination
  readonly source: FakeSource
  readonly states: MigrationState[]
}

/** A listening destination, and a scripted source that is connected to it. */
export async function begin(
  options: Partial<DestinationOptions> & { machine?: TestMachineOptions } = {},
): Promise<Case> {
  const { machine: machineOptions = { blocks }, ...rest } = options
  const sent = new TestMachine(machineOptions)
  sent.fill()
  const machine = new TestMachine(machineOptions)
  const destination = await listenFor(machine, { capabilities: postcopy, ...rest })
  const states = statesOf(destination)
  const source = await FakeSource.connect(destination.uri, machine)
  return { sent, machine, destination, source, states }
}

/** The destination fails and sends SHUT 1, and the guest has never run here. */
export async function assertRefused(one: Case, code: string, text?: RegExp): Promise<void> {
  await ended(one.destination)
  assert.equal(one.destination.state, 'failed', String(one.destination.error))
  assert.equal(one.destination.error?.code, code, String(one.destination.error))
  if (text !== undefined) assert.match(one.destination.error.message, text)
  assert.equal(one.machine.starts, 0)
}

export async function assertTold(one: Case): Promise<void> {
  await one.source.heard('shut', 1)
}

/** Everything of a postcopy except its pages. */
export function upToPackage(one: Case): void {
  one.source.send(prologue(one.sent))
  handOver(one)
}

/** What follows the prologue of a postcopy, up to its pages. */
function handOver(one: Case): void {
  one.source.send(discardAll(one.sent))
  one.source.send(packageOf(one.sent))
}

/** The pages of a running migration, in the END of ram, and its end. */
export async function complete(one: Case): Promise<void> {
  one.source.send(ramEnd(allPages(one.sent)))
  one.source.send((out) => encodeEndOfStream(out))
  await one.destination.done
}

/** All that follows the prologue of a postcopy. */
export async function completeAfterPrologue(one: Case): Promise<void> {
  handOver(one)
  await complete(one)
}

/** A migration that is complete except for its pages: the guest runs here. */
export async function running(options: TestMachineOptions = { blocks }): Promise<Case> {
  const one = await begin({ machine: options })
  upToPackage(one)
  await reached(one.destination, 'postcopy-active')
  return one
}
