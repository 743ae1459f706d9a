/** TypeScript and native code declare the same layouts and constants. */
import assert from 'node:assert/strict'
import { BLOCKS, VERDICTS } from '../../src/guest/findings.js'
import * as guest from '../../src/guest/native.js'
import { ACTIVITIES, BUCKETS } from '../../src/guest/vcpu-stats.js'
import { PATTERNS } from '../../src/guest/workload.js'
import * as lab from '../../src/host/native.js'
import {
  FaultEvent,
  ForkEvent,
  RangeEvent,
  RemapEvent,
  UffdEvent,
} from '../../src/kernel/events.js'
import { callNumbers, rowOf } from '../../src/kernel/layout.js'
import { loadAddon } from '../../src/kernel/load.js'
import * as kernel from '../../src/kernel/native.js'
import { PageRange, ScanFlag } from '../../src/kernel/pagemap.js'
import { AssembleStop, PlaceStop } from '../../src/kernel/pages.js'
import {
  MAX_RECORD_NAME_BYTES,
  RAM_PAGE_RECORD_BYTES,
  RAM_RECORD_HEAD_BYTES,
  RAM_ZERO_RECORD_BYTES,
  RamFlag,
} from '../../src/stream/index.js'
import { TARGET_PAGE_SIZE } from '../../src/units.js'
import {
  differences,
  inOrder,
  type DeclaredInterface,
  type NativeInterface,
} from '../support/native-interface.js'

const declared: Record<'postcopy' | 'vcpu' | 'lab', DeclaredInterface> = {
  postcopy: {
    calls: [
      kernel.PackCall.layout,
      kernel.SendCall.layout,
      kernel.LoadCall.layout,
      kernel.AssembleCall.layout,
      kernel.PlaceCall.layout,
      kernel.StoreCall.layout,
      kernel.ScanCall.layout,
      kernel.GuardCall.layout,
    ],
    rows: [
      PageRange.layout,
      FaultEvent.layout,
      ForkEvent.layout,
      RemapEvent.layout,
      RangeEvent.layout,
      kernel.PageFileRun.layout,
      kernel.FileExtent.layout,
      kernel.PageRun.layout,
      kernel.Assembly.layout,
    ],
    constants: {
      regionKind: inOrder(kernel.regionKinds),
      openMethod: inOrder(kernel.openMethods),
      registerMode: kernel.RegisterMode,
      fillMode: kernel.FillMode,
      copyMode: kernel.CopyMode,
      continueMode: kernel.ContinueMode,
      moveMode: kernel.MoveMode,
      writeProtectMode: kernel.WriteProtectMode,
      scanFlag: ScanFlag,
      event: UffdEvent,
      placeStop: PlaceStop,
      assembleStop: AssembleStop,
      record: {
        targetPageBytes: TARGET_PAGE_SIZE,
        headerBytes: RAM_RECORD_HEAD_BYTES,
        pageBytes: RAM_PAGE_RECORD_BYTES,
        zeroBytes: RAM_ZERO_RECORD_BYTES,
        maxNameBytes: MAX_RECORD_NAME_BYTES,
        zero: RamFlag.zero,
        page: RamFlag.page,
        continue: RamFlag.continue,
      },
    },
  },
  vcpu: {
    calls: [guest.ConfigureCall.layout, guest.StatsCall.layout],
    rows: [guest.FindingRow.layout, guest.SealedPage.layout, guest.VcpuState.layout],
    constants: {
      pattern: inOrder(PATTERNS),
      activity: inOrder(ACTIVITIES),
      verdict: inOrder(VERDICTS),
      block: inOrder(BLOCKS),
      histogram: { buckets: BUCKETS },
    },
  },
  lab: {
    calls: [lab.ProgramCall.layout, lab.ResponderCall.layout, lab.PlacementCall.layout],
    rows: [lab.SweepStep.layout, lab.OutcomeRow.layout],
    constants: {
      step: lab.StepKind,
      policy: lab.SignalPolicy,
      waiting: inOrder(lab.waitingMethods),
    },
  },
}

function interfaceOf(name: keyof typeof declared): NativeInterface {
  return (loadAddon(name) as { nativeInterface: () => NativeInterface }).nativeInterface()
}

describe('the interface of an addon', () => {
  for (const name of ['postcopy', 'vcpu', 'lab'] as const) {
    it(`is the same in TypeScript and in native code: ${name}`, () => {
      const native = interfaceOf(name)
      assert(Object.keys(native.calls).length > 1)
      assert.deepEqual(differences(native, declared[name]), [])
    })
  }

  it('differs by each planted difference', () => {
    const native: NativeInterface = {
      calls: { fill: { arguments: ['start', 'length'], results: ['done'] } },
      rows: { range: ['start', 'end'] },
      constants: { 'mode.wake': 1 },
    }
    const same: DeclaredInterface = {
      calls: [{ call: 'fill', arguments: ['start', 'length'], results: ['done'] }],
      rows: [{ row: 'range', fields: ['start', 'end'] }],
      constants: { mode: { wake: 1 } },
    }
    assert.deepEqual(differences(native, same), [])
    const planted: [Partial<DeclaredInterface>, string[]][] = [
      [
        { calls: [{ call: 'fill', arguments: ['length', 'start'], results: ['done'] }] },
        ['arguments of fill: TypeScript [length, start], native code [start, length]'],
      ],
      [
        { calls: [{ call: 'fill', arguments: ['start', 'length'], results: [] }] },
        ['results of fill: TypeScript [], native code [done]'],
      ],
      [
        { calls: [] },
        [
          'arguments of fill: TypeScript has none, native code [start, length]',
          'results of fill: TypeScript has none, native code [done]',
        ],
      ],
      [
        { rows: [{ row: 'range', fields: ['start', 'end', 'kind'] }] },
        ['fields of range: TypeScript [start, end, kind], native code [start, end]'],
      ],
      [
        { rows: [...same.rows, { row: 'other', fields: ['start'] }] },
        ['fields of other: TypeScript [start], native code has none'],
      ],
      [{ constants: { mode: { wake: 2 } } }, ['mode.wake: TypeScript [2], native code [1]']],
      [{ constants: {} }, ['mode.wake: TypeScript has none, native code [1]']],
    ]
    for (const [change, expected] of planted) {
      assert.deepEqual(differences(native, { ...same, ...change }), expected)
    }
  })

  it('is used by names that stand for the places in the array', () => {
    class Call extends callNumbers('fill', ['start', 'length'], ['done']) {}
    const call = new Call()
    assert.deepEqual([...call.numbers], [NaN, NaN, NaN])
    call.start = 1
    call.length = 2
    call.numbers[2] = 3
    assert.deepEqual([...call.numbers, call.start, call.length, call.done], [1, 2, 3, 1, 2, 3])
    assert.throws(() => Object.assign(call, { done: 4 }), TypeError)
    assert.notEqual(new Call().numbers, call.numbers)
    const { start, end, stride } = rowOf('range', ['start', 'end'])
    assert.deepEqual([start, end, stride], [0, 1, 2])
  })
})
