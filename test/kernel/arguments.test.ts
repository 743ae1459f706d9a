/** Hostile arguments for every function of the addons: a JavaScript error or a result, never a crash. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { cleanups } from '../support/cleanup.js'
import { runNode } from '../support/node-script.js'

/** Raise it to look for rare crashes. */
const rounds = Number(process.env['POSTCOPY_TEST_ROUNDS'] ?? 60)

function pathOf(addon: string): string {
  return JSON.stringify(
    createRequire(import.meta.url).resolve(`../../../build/Release/${addon}.node`),
  )
}

/**
 * Calls each function with values of every kind, in a process of its own. Descriptors are
 * `/dev/null` or not open: closing the descriptors of Node is not the question.
 */
function script(addon: string, folder: string): string {
  return `
    import { openSync } from 'node:fs'
    import { createRequire } from 'node:module'
    const require = createRequire(import.meta.url)
    const addon = require(${pathOf(addon)})
    const kernel = require(${pathOf('postcopy')})
    // A function may make a socket under any name in this folder.
    process.chdir(${JSON.stringify(folder)})
    let seed = 1
    const below = (bound) => (seed = (seed * 48271) % 2147483647) % bound
    const pick = (list) => list[below(list.length)]
    const regions = [kernel.regionCreate(0, 16384, false, 'x'), kernel.regionCreate(1, 8192, true, 'y')]
    const closed = kernel.regionCreate(0, 4096, false, 'z')
    kernel.regionClose(closed)
    const uffd = kernel.uffdOpen(1, true, 0n)
    // The guard of a thread that is not of this process.
    const guard = kernel.guardStart(uffd, 2 ** 30)
    const handles = [...regions, closed, uffd, guard, ...regions.map((region) => kernel.regionLease(region))]
    if (addon.machineCreate !== undefined) {
      const [ram, ledger] = handles.slice(-2)
      handles.push(addon.machineCreate(ram, ledger, 2, 4))
    }
    const strange = [
      undefined, null, true, false, '', 'x', 'a\\0b', Symbol('s'), 0n, -1n, 2n ** 64n, {}, [], [1, 2],
      () => undefined, new Proxy({}, { get() { throw new Error('get') } }), NaN, Infinity, -Infinity,
      -0, 0.5, -1, 1e300, 2 ** 31, 2 ** 32, 2 ** 53, 2 ** 64, new Date(), /x/, new Map(),
    ]
    const arrays = [
      () => new Uint8Array(0), () => new Uint8Array(4096), () => new Uint8Array(9).subarray(3, 3),
      () => new Float64Array([NaN, 1e300, -1, 4, 0.5, Infinity, 2, 8]),
      () => new Float64Array(16), () => new Int32Array(4), () => new Int32Array(64).fill(-1),
      () => new BigUint64Array(7).fill(2n ** 64n - 1n), () => new DataView(new ArrayBuffer(8)),
      () => new ArrayBuffer(8), () => new Uint8Array(new SharedArrayBuffer(64)),
      () => { const bytes = new Uint8Array(16); structuredClone(bytes, { transfer: [bytes.buffer] }); return bytes },
    ]
    const numbers = [0, 1, 2, 3, 7, 8, 64, 4095, 4096, 8192, 16384, 65536]
    const descriptors = [-1, 1_000_000, openSync('/dev/null', 'r+'), NaN, 'x']
    // Functions with raw addresses or system calls never get a number that could be a valid one.
    const raw = new Set(['syscall', 'peek', 'poke', 'programStart', 'responderStart', 'receiveAndPlace'])
    const firstIsDescriptor = /^(fd|socket(Set|Get|Outstanding|Send)|storeRecords|responderStart|receiveAndPlace)/
    const isStatus = (value) => Number.isInteger(value) && value >= 0 && value <= 255
    const layouts = addon.nativeInterface().calls
    const strangeNumbers = strange.filter((value) => typeof value === 'number')
    function numbersOf(name) {
      const { arguments: names, results } = layouts[name]
      const fields = names.map((field) => {
        if (field === 'fd') return Number(pick(descriptors))
        if (raw.has(name)) return pick(strangeNumbers.filter((value) => !(value >= 1)))
        return pick(below(3) === 0 ? strangeNumbers : numbers)
      })
      return Float64Array.from([...fields, ...results.map(() => NaN)])
    }
    function argument(name, index) {
      // A valid status would end the script.
      if (name === 'processExit') return pick(strange.filter((value) => !isStatus(value)))
      if (index === 0 && (firstIsDescriptor.test(name) || name === 'regionOpenFile')) return pick(descriptors)
      if (index === 1 && name === 'fdSpin') return pick(descriptors)
      if (index === 2 && name === 'fdSpin') return pick([0, -1, 100, NaN])
      // Functions with a descriptor after other arguments.
      if (index === 3 && /^region(Read|Write)File$/.test(name)) return pick(descriptors)
      // Functions that take their numbers in an array.
      if (layouts[name] !== undefined && below(3) === 0) return numbersOf(name)
      const kind = below(raw.has(name) ? 2 : 4)
      if (kind === 0) return pick(strange.filter((value) => !raw.has(name) || typeof value !== 'number' || !(value >= 1)))
      if (kind === 1) return pick(arrays)()
      if (kind === 2) return pick(numbers)
      return pick(handles)
    }
    let calls = 0
    for (const [name, call] of Object.entries(addon)) {
      for (const args of [[], [undefined], [null], [null, null], [{}], ...Array.from({ length: ${rounds} }, () =>
        Array.from({ length: below(12) }, (_, index) => argument(name, index)))]) {
        try { call(...args) } catch (error) {
          if (!(error instanceof Error)) throw error
        }
        calls += 1
      }
    }
    console.log('calls: ' + calls)
    process.exit(0)`
}

describe('the functions of an addon', () => {
  for (const addon of ['postcopy', 'vcpu', 'lab']) {
    it(`take hostile arguments without a crash: ${addon}`, () => {
      const folder = mkdtempSync(join(tmpdir(), 'postcopy-test-'))
      cleanups.add(() => rmSync(folder, { recursive: true }))
      const { stdout } = runNode(script(addon, folder))
      assert.match(stdout, /^calls: [1-9]\d+$/m)
    })
  }
})
