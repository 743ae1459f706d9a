/** What tests with a real QEMU share. */
import assert from 'node:assert/strict'
import { closeSync, openSync, readFileSync, readSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { Park, ParkedVm } from '../../../src/park/index.js'
import type { ParkOptions, ParkedVmOptions } from '../../../src/park/index.js'
import { cleanups } from '../../support/cleanup.js'
import { countingFirmware } from '../../../src/bench/qemu-guest.js'
import type { Qemu } from './qemu.js'

const MIB = 2 ** 20

/** A `pc` that counts in RAM from 1 MiB to `end`, of its 64 MiB; the other pages stay zero. */
export function countingPc(folder: string, endBytes = 48 * MIB): string[] {
  return ['-machine', 'pc', '-m', '64', ...countingFirmware(folder, endBytes)]
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

/** Guest physical memory of a QEMU with a stopped guest. */
export async function memoryOf(
  qemu: Qemu,
  folder: string,
  address: number,
  lengthBytes: number,
): Promise<Buffer> {
  const filename = join(folder, `memory-${qemu.pid}-${address}`)
  await qemu.execute('pmemsave', { val: address, size: lengthBytes, filename })
  return readFileSync(filename)
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

/** The parked content of a RAM block, from its start. */
export function parkedRam(
  park: Park,
  directory: string,
  name: string,
  lengthBytes: number,
): Buffer {
  const block = park.manifest?.blocks.find((candidate) => candidate.name === name)
  assert(block !== undefined, name)
  const bytes = Buffer.alloc(Math.min(lengthBytes, block.lengthBytes))
  const fd = openSync(join(directory, block.file), 'r')
  readSync(fd, bytes, 0, bytes.length, 0)
  closeSync(fd)
  return bytes
}
