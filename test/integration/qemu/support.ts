/** What tests with a real QEMU share. */
import assert from 'node:assert/strict'
import { closeSync, openSync, readSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { Park, ParkedVm } from '../../../src/park/index.js'
import type { ParkOptions, ParkedVmOptions } from '../../../src/park/index.js'
import { cleanups } from '../../support/cleanup.js'
import * as qemuGuest from '../../../src/bench/qemu-guest.js'
import type { Qemu } from './qemu.js'

const MIB = 2 ** 20

/** A guest that counts in RAM from 1 MiB to `endBytes`; it prints a dot for 32 passes. */
export function countingFirmware(folder: string, endBytes: number): string[] {
  return qemuGuest.countingFirmware(folder, endBytes, 32)
}

/** A `pc` that counts in RAM from 1 MiB to `endBytes`, of its 32 MiB; the other pages stay zero. */
export function countingPc(folder: string, endBytes = 16 * MIB): string[] {
  return ['-machine', 'pc', '-m', '32', ...countingFirmware(folder, endBytes)]
}

/** Waits until every page has been counted in, and checked, many times. */
export async function counts(qemu: Qemu, after = 0): Promise<void> {
  await qemu.says(/\.\./, after)
  assert.doesNotMatch(qemu.serial, /X/)
}

export async function listen(options: Partial<ParkOptions> & { directory: string }): Promise<Park> {
  const park = await Park.listen({ uri: 'tcp:127.0.0.1:0', ...options })
  cleanups.add(() => park.close())
  return park
}

export function openParked(directory: string, options: ParkedVmOptions = {}): ParkedVm {
  const vm = ParkedVm.open(directory, { verify: true, ...options })
  cleanups.add(() => vm.close())
  return vm
}

/** Resolves with the last state. */
export async function settled(park: Park): Promise<string> {
  await new Promise<void>((resolve) => {
    park.on('state', (state) => {
      if (state === 'postcopy-paused') resolve()
    })
    if (park.state === 'postcopy-paused') resolve()
    park.done.then(resolve, () => resolve())
  })
  return park.state
}

export interface Content {
  readonly lengthBytes: number
  /** Reads from this offset on, until the target is full. */
  read(offset: number, target: Uint8Array): void
}

function readFrom(path: string): Content['read'] {
  return (offset, target) => {
    const fd = openSync(path, 'r')
    const count = readSync(fd, target, 0, target.length, offset)
    closeSync(fd)
    assert.equal(count, target.length, path)
  }
}

/**
 * Whether a file has the first `lengthBytes` of this content, and no more. Compares pieces: memory
 * that is touched first is slow.
 */
export function fileHas(
  path: string,
  content: Content,
  lengthBytes = content.lengthBytes,
): boolean {
  const { size } = statSync(path)
  if (size !== lengthBytes) return false
  const inFile = readFrom(path)
  const [expected, found] = [new Uint8Array(MIB), new Uint8Array(MIB)]
  for (let offset = 0; offset < size; offset += MIB) {
    const pieces = [expected, found].map((piece) => piece.subarray(0, size - offset))
    const [one = expected, other = found] = pieces
    inFile(offset, one)
    content.read(offset, other)
    if (Buffer.compare(one, other) !== 0) return false
  }
  assert(size > 0)
  return true
}

/** A file with guest physical memory of a QEMU with a stopped guest. */
export async function memoryOf(
  qemu: Qemu,
  folder: string,
  address: number,
  lengthBytes: number,
): Promise<string> {
  const filename = join(folder, `memory-${qemu.pid}-${address}`)
  await qemu.execute('pmemsave', { val: address, size: lengthBytes, filename })
  assert.equal(statSync(filename).size, lengthBytes)
  return filename
}

/**
 * The files of a parked VM, after a check of their contents: equal results mean equal folders,
 * except for the working set.
 */
export function fingerprint(folder: string): Record<string, string> {
  ParkedVm.open(folder, { verify: true }).close()
  return Object.fromEntries(
    readdirSync(folder)
      .filter((name) => name !== 'working-set')
      .sort()
      .map((name) => {
        const { mtimeMs, size, blocks } = statSync(join(folder, name))
        return [name, `${size} ${blocks} ${mtimeMs}`]
      }),
  )
}

/** The parked content of a RAM block, from this offset on. */
export function parkedRam(vm: ParkedVm | Park, directory: string, name: string, from = 0): Content {
  const block = vm.manifest?.blocks.find((candidate) => candidate.name === name)
  assert(block !== undefined, name)
  const read = readFrom(join(directory, block.file))
  return {
    lengthBytes: block.lengthBytes - from,
    read: (offset, target) => read(from + offset, target),
  }
}
