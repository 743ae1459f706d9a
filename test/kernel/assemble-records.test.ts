import assert from 'node:assert/strict'
import {
  AssembleCall,
  AssembleStop,
  Assembly,
  assembleRecords,
  createHostPageAssembly,
} from '../../src/kernel/index.js'
import { pageContent } from '../support/memory-kinds.js'
import {
  concat,
  foreignRecords,
  pageRecord,
  pageSet,
  pagesIn,
  zeroRecord,
} from '../support/records.js'

/** Host pages of 40 target pages: more bits than one word of the "seen" bits. */
const hostPages = 40
const pages = 3 * hostPages

function makeAssembly() {
  const assembly = createHostPageAssembly(hostPages * 4096)
  const [received, call] = [pageSet(pages), new AssembleCall()]
  call.usedLength = pages * 4096
  return {
    ...assembly,
    received,
    call,
    result: () => [call.normalPages, call.zeroPages, call.stop],
    take: (bytes: Uint8Array, start = 0, end = bytes.length) => {
      call.start = start
      call.end = end
      return assembleRecords(assembly, received, bytes, call)
    },
  }
}

function wholeHostPage(host: number, order: readonly number[]): Uint8Array[] {
  return order.map((index) => {
    const page = host * hostPages + index
    return index % 5 === 4 ? zeroRecord(page) : pageRecord(page, pageContent(page))
  })
}

const ascending = Array.from({ length: hostPages }, (_, i) => i)

describe('assembleRecords', () => {
  for (const [title, order] of [
    ['in order', ascending],
    ['in any order', ascending.map((i) => (i * 7 + 3) % hostPages)],
  ] as const) {
    it(`gathers a host page ${title}, and stops after it`, () => {
      const { staging, state, result, received, take } = makeAssembly()
      staging.fill(0xff)
      const host = concat(wholeHostPage(1, order))
      const bytes = concat([host, ...wholeHostPage(2, [0, 1])])
      assert.equal(take(bytes), host.length)
      assert.deepEqual([...state.subarray(0, Assembly.stride)], [1, hostPages])
      assert.deepEqual(result(), [(hostPages * 4) / 5, hostPages / 5, AssembleStop.NONE])
      for (const index of ascending) {
        const expected = index % 5 === 4 ? new Uint8Array(4096) : pageContent(hostPages + index)
        assert.deepEqual(staging.subarray(index * 4096, (index + 1) * 4096), expected)
      }
      // The caller places the page and marks it.
      assert.deepEqual(pagesIn(received), [])

      state[Assembly.hostPage] = -1
      assert.equal(take(bytes, host.length), bytes.length - host.length)
      assert.deepEqual([...state.subarray(0, Assembly.stride)], [2, 2])
    })
  }

  it('continues where the bytes were cut', () => {
    const { state, take } = makeAssembly()
    const bytes = concat(wholeHostPage(0, ascending))
    let at = 0
    for (let end = 0; end < bytes.length; end = Math.min(end + 1777, bytes.length)) {
      at += take(bytes, at, end)
    }
    at += take(bytes, at)
    assert.equal(at, bytes.length)
    assert.equal(state[Assembly.seenPages], hostPages)
  })

  it('stops before a page of another host page', () => {
    const { state, call, result, take } = makeAssembly()
    const first = concat(wholeHostPage(1, [0, 1, 2]))
    const bytes = concat([first, ...wholeHostPage(0, [3])])
    assert.equal(take(bytes), first.length)
    assert.deepEqual(result(), [3, 0, AssembleStop.OTHER_HOST_PAGE])
    assert.deepEqual([...state.subarray(0, Assembly.stride)], [1, 3])
    assert.equal(take(bytes, first.length), 0)
    assert.equal(call.stop, AssembleStop.OTHER_HOST_PAGE)
  })

  it('does not accept a page twice, so that no host page is completed with a hole', () => {
    const { state, result, take } = makeAssembly()
    const first = concat(wholeHostPage(1, [33]))
    const bytes = concat([first, first])
    assert.equal(take(bytes), first.length)
    assert.deepEqual(result(), [1, 0, AssembleStop.DUPLICATE])
    assert.equal(state[Assembly.seenPages], 1)
  })

  it('does not accept a page of a host page that is complete or received', () => {
    const { received, call, take } = makeAssembly()
    const whole = concat(wholeHostPage(0, ascending))
    assert.equal(take(whole), whole.length)
    assert.equal(take(whole), 0)
    assert.equal(call.stop, AssembleStop.DUPLICATE)
    received.set(pageSet(pages, 2 * hostPages))
    assert.equal(take(zeroRecord(2 * hostPages)), 0)
    assert.equal(call.stop, AssembleStop.DUPLICATE)
  })

  it('leaves everything else to the decoder', () => {
    for (const [what, foreign] of foreignRecords(pages)) {
      const { state, call, take } = makeAssembly()
      const good = zeroRecord(3)
      assert.equal(take(concat([good, foreign])), good.length, what)
      assert.equal(call.stop, AssembleStop.NONE, what)
      assert.equal(state[Assembly.seenPages], 1, what)
    }
  })

  it('rejects inconsistent arguments', () => {
    const { staging, state, received, call: numbers } = makeAssembly()
    const bytes = new Uint8Array(9)
    const call = (stage: Uint8Array, words: Int32Array, used: number) => {
      Object.assign(numbers, { usedLength: used, start: 0, end: 9 })
      return assembleRecords({ staging: stage, state: words }, received, bytes, numbers)
    }
    assert.throws(() => call(staging.subarray(1), state, pages * 4096), RangeError)
    assert.throws(() => call(new Uint8Array(0), state, 0), RangeError)
    assert.throws(() => call(staging, state.subarray(1), pages * 4096), RangeError)
    assert.throws(() => call(staging, state, 4096), RangeError)
    // @ts-expect-error not an Int32Array
    assert.throws(() => call(staging, new Uint32Array(5), pages * 4096), TypeError)
  })
})
