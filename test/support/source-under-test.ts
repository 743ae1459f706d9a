/** A source of ours, and a scripted destination that it migrates to. */
import assert from 'node:assert/strict'
import type { Source, SourceOptions } from '../../src/source/index.js'
import { FakeDestination } from './fake-peer.js'
import { migrateTo, postcopy } from './migration.js'
import { TestMachine, type TestMachineOptions } from './test-machine.js'

export interface Case {
  readonly machine: TestMachine
  readonly source: Source
  readonly peer: FakeDestination
}

/** So low that one batch uses it up: the source then stops until the limit is raised. */
export const oneBatch = 1
export const BATCH_PAGES = 128

export async function begin(
  machineOptions: TestMachineOptions,
  options: Partial<SourceOptions> = {},
): Promise<Case> {
  const machine = new TestMachine(machineOptions)
  machine.fill()
  machine.devices.set('nic', Buffer.from('some state'))
  machine.start()
  const peer = await FakeDestination.listen()
  const source = migrateTo(peer.uri, machine, { capabilities: postcopy, ...options })
  return { machine, source, peer }
}

export async function finish({ source, peer }: Case): Promise<void> {
  await peer.heard('endOfStream')
  peer.shut(0)
  await source.done
  assert.equal(peer.refused, undefined)
}

/** Pages in their order on the wire, as `block:page`, from an event on. */
export function pagesOf(peer: FakeDestination, from = 0): string[] {
  return peer.events.slice(from).flatMap(([name, block, offset]) => {
    if (name !== 'ramPage' && name !== 'ramZero') return []
    return [`${String(block)}:${Number(offset) / 4096}`]
  })
}

export function packageIndex(peer: FakeDestination): number {
  return peer.events.findIndex(([name]) => name === 'packaged')
}
