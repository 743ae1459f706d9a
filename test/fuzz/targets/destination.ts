/** A source's elements in any order and form, with actions of user and host at any moment. */
import { PostcopyError } from '../../../src/errors.js'
import * as stream from '../../../src/stream/index.js'
import { BLOCKS, DestinationRig, MACHINE_TYPE, PAGE, RAM_ID } from '../destination-rig.js'
import { type Step, programOf, stepAt, stepsOf } from '../program.js'
import type { Target } from '../target.js'

type Build = (out: stream.Writer) => void
type Action = (run: Run, step: Step) => void

/** The action of a step, by its first byte. */
export const Do = {
  header: 0,
  openReturnPath: 1,
  ping: 2,
  advise: 3,
  start: 4,
  part: 5,
  discard: 6,
  discardAll: 7,
  package: 8,
  end: 9,
  devices: 10,
  endOfStream: 11,
  description: 12,
  recvBitmap: 13,
  resume: 14,
  raw: 15,
  cutNext: 16,
  changeNext: 17,
  guestRuns: 18,
  loadFails: 19,
  pong: 20,
  sourceCloses: 21,
  breakOff: 22,
  pause: 23,
  connect: 24,
  urgent: 25,
  endUrgent: 26,
  closeUrgent: 27,
  prologue: 28,
  allPages: 29,
  abandon: 30,
} as const

class Run {
  readonly rig: DestinationRig
  readonly postcopy: boolean
  readonly #hostPages: 1 | 2
  /** Applied to the bytes of the next element. */
  change: ((bytes: Uint8Array) => Uint8Array) | undefined
  #fill = 0
  #hasPreempt = false

  constructor({ what, a }: Step) {
    this.postcopy = (what & 1) !== 0
    this.#hostPages = (what & 8) === 0 ? 1 : 2
    this.rig = new DestinationRig({
      postcopy: this.postcopy,
      preempt: this.postcopy && (what & 2) !== 0,
      isResumed: this.postcopy && (what & 4) !== 0,
      hostPages: this.#hostPages,
    })
    this.#fill = a
  }

  get summary(): number {
    return this.#hostPages === 1 ? PAGE : PAGE + 2 * PAGE
  }

  send(build: Build): void {
    this.rig.main.receive(this.#changed(build))
  }

  sendUrgent(build: Build): void {
    this.connect()
    this.rig.preempt.receive(this.#changed(build))
  }

  /** Makes the second connection, once. */
  connect(): void {
    if (this.#hasPreempt) return
    this.#hasPreempt = true
    this.rig.receiver.accept(this.rig.preempt.asChannel)
  }

  #changed(build: Build): Uint8Array {
    const bytes = stream.encode(build)
    const { change } = this
    this.change = undefined
    if (change === undefined) return bytes
    this.rig.isTampered = true
    return change(bytes)
  }

  blocks(variant: number): stream.RamBlockInfo[] {
    const list = BLOCKS.map(({ name, pages }): stream.RamBlockInfo => {
      const isHuge = name === 'ram' && this.#hostPages === 2 && this.postcopy
      const usedLengthBytes = pages * PAGE
      return isHuge ? { name, usedLengthBytes, pageSizeBytes: 2 * PAGE } : { name, usedLengthBytes }
    })
    if (variant === 5) return list.slice(0, 1)
    if (variant === 6) return [...list, { name: 'rom', usedLengthBytes: PAGE }]
    if (variant === 7) return list.map((block) => ({ ...block, usedLengthBytes: 64 * PAGE }))
    return list
  }

  /** `count` pages from page `first` on; `flags` select the block and the form. */
  records(out: stream.Writer, count: number, first: number, flags: number): void {
    const block = BLOCKS[flags & 1] ?? BLOCKS[0]
    for (let i = 0; i < count; i += 1) {
      const step = (flags & 8) !== 0 ? -i : (flags & 16) !== 0 ? 0 : i
      // The modulus is larger than the block, so some pages are past its end.
      const page = (first + step + 256) % (block.pages + ((flags & 32) === 0 ? 0 : 2))
      const name = i === 0 && (flags & 2) === 0 ? block.name : undefined
      this.#record(out, name, block.name, page, (flags & 4) !== 0 && i % 2 === 0)
    }
  }

  #record(
    out: stream.Writer,
    named: string | undefined,
    block: string,
    page: number,
    isZero: boolean,
  ): void {
    if (isZero) {
      stream.encodeRamZero(out, named, page * PAGE)
      return
    }
    this.#fill = (this.#fill % 250) + 1
    // Without a name, the record belongs to the block that was named last.
    for (const [name, pages] of this.rig.sent) {
      if (named === undefined || name === block) pages[page]?.add(this.#fill)
    }
    stream.encodeRamPage(out, named, page * PAGE, new Uint8Array(PAGE).fill(this.#fill))
  }

  allPages(out: stream.Writer, every: number): void {
    BLOCKS.forEach(({ pages }, index) => {
      if (every === 0) this.records(out, pages, 0, index)
      else for (let page = 1; page < pages; page += 4) this.records(out, 3, page, index)
    })
  }
}

function section(out: stream.Writer): void {
  stream.encodeRamEndOfSection(out)
  stream.encodeFooter(out, RAM_ID)
}

function devices(): Uint8Array<ArrayBuffer> {
  const writer = new stream.DeviceSectionWriter(RAM_ID + 1)
  writer.add({ idstr: 'state', instanceId: 0, version: 1 }, (out) => out.u32(1))
  return writer.take()
}

function part(run: Run, isEnd: boolean, build: Build): void {
  run.send((out) => {
    if (isEnd) stream.encodeSectionEnd(out, RAM_ID)
    else stream.encodeSectionPart(out, RAM_ID)
    build(out)
    section(out)
  })
}

function start(run: Run, variant: number): void {
  run.send((out) => {
    stream.encodeSectionStart(out, { id: RAM_ID, idstr: 'ram', instanceId: 0, version: 4 })
    stream.encodeRamBlockList(out, run.blocks(variant))
    section(out)
  })
}

const header: Action = (run, { a }) =>
  run.send((out) => {
    stream.encodeFileHeader(out)
    stream.encodeConfiguration(out, a === 1 ? 'toaster' : MACHINE_TYPE)
  })
const advise: Action = (run, { a, b }) =>
  run.send((out) =>
    stream.encodeAdvise(out, a === 1 ? 2 ** 20 : run.summary, b === 1 ? 2 * PAGE : PAGE),
  )

const actions: Readonly<Record<number, Action>> = {
  [Do.header]: header,
  [Do.openReturnPath]: (run) => run.send(stream.encodeOpenReturnPath),
  [Do.ping]: (run, { a }) => run.send((out) => stream.encodePing(out, a)),
  [Do.advise]: advise,
  [Do.start]: (run, { a }) => start(run, a),
  [Do.part]: (run, { a, b, c }) => part(run, false, (out) => run.records(out, a % 9, b, c)),
  [Do.discard]: (run, { a, b, c }) => {
    const { name, pages } = BLOCKS[a & 1] ?? BLOCKS[0]
    const from = b % pages
    const count = 1 + (c % (pages - from))
    run.send((out) => stream.encodeRamDiscard(out, name, [from * PAGE, count * PAGE]))
  },
  [Do.discardAll]: (run) =>
    run.send((out) => {
      for (const { name, pages } of BLOCKS) stream.encodeRamDiscard(out, name, [0, pages * PAGE])
    }),
  [Do.package]: (run, { a }) => {
    const blob = stream.encodePackage(devices())
    run.send((out) => stream.encodePackaged(out, a === 1 ? blob.subarray(1) : blob))
  },
  [Do.end]: (run, { a, b, c }) => part(run, true, (out) => run.records(out, a % 9, b, c)),
  [Do.devices]: (run) => run.send((out) => out.bytes(devices())),
  [Do.endOfStream]: (run) => run.send(stream.encodeEndOfStream),
  [Do.description]: (run) => run.send((out) => stream.encodeVmDescription(out, '{"a": 1}')),
  [Do.recvBitmap]: (run, { a }) =>
    run.send((out) => stream.encodeRecvBitmapRequest(out, BLOCKS[a & 1]?.name ?? '')),
  [Do.resume]: (run) => run.send(stream.encodeResume),
  [Do.raw]: (run, { a, b, c }) => {
    run.rig.isTampered = true
    run.send((out) => out.u8(a).u8(b).u8(c))
  },
  [Do.cutNext]: (run, { a }) => {
    run.change = (bytes) => bytes.subarray(0, Math.floor((a / 255) * bytes.length))
  },
  [Do.changeNext]: (run, { a, b, c }) => {
    run.change = (bytes) => {
      bytes[(a * 256 + b) % bytes.length] = c
      return bytes
    }
  },
  [Do.guestRuns]: ({ rig }) => rig.guestRunning(),
  [Do.loadFails]: ({ rig }) => rig.loadFailed(new PostcopyError('ERR_DEVICE_STATE', 'no')),
  [Do.pong]: ({ rig }, { a }) => {
    if (rig.claim === 'loading') rig.receiver.pong(a)
  },
  [Do.sourceCloses]: ({ rig }) => rig.main.end(),
  [Do.breakOff]: ({ rig }, { a }) => rig.main.breakOff(a === 0 ? undefined : 'ECONNRESET'),
  [Do.pause]: ({ rig }) => rig.receiver.pause(),
  [Do.connect]: (run, { a }) => {
    if (a === 0) run.connect()
    else run.rig.acceptStranger()
  },
  [Do.urgent]: (run, { a, b, c }) => run.sendUrgent((out) => run.records(out, a % 9, b, c)),
  [Do.endUrgent]: (run) => run.sendUrgent(stream.encodeRamEndOfSection),
  [Do.closeUrgent]: ({ rig }, { a }) => {
    if (a === 0) rig.preempt.end()
    else rig.preempt.breakOff(a === 1 ? undefined : 'ECONNRESET')
  },
  [Do.prologue]: (run, step) => {
    header(run, step)
    if (run.postcopy) {
      run.send(stream.encodeOpenReturnPath)
      advise(run, { ...step, a: 0, b: 0 })
    }
    start(run, 0)
  },
  [Do.allPages]: (run, { a }) => part(run, false, (out) => run.allPages(out, a)),
  [Do.abandon]: ({ rig }) => rig.receiver.fail(new PostcopyError('ERR_WORKER', 'it died')),
}

export const ACTION_COUNT = Object.keys(actions).length

const POSTCOPY = 1
const PREEMPT = 3
const RESUMED = 5
const HUGE = 9

const switched = [
  [Do.prologue],
  [Do.ping, 1],
  [Do.part, 4, 0, 0],
  [Do.discardAll],
  [Do.package],
] as const
const rest = [[Do.guestRuns], [Do.allPages], [Do.end], [Do.endOfStream]] as const

/** The preempt channel and then the stream end before all pages were sent. */
export const destinationMarkedEarly: Uint8Array = programOf([
  [PREEMPT],
  ...switched,
  [Do.guestRuns],
  [Do.urgent, 2, 3, 1],
  [Do.endUrgent],
  [Do.end],
  [Do.endOfStream],
])

/** The same, with the preempt channel closed before it is read. */
export const destinationGoneEarly: Uint8Array = programOf([
  [PREEMPT],
  [Do.closeUrgent, 1],
  ...switched,
  [Do.guestRuns],
  [Do.connect],
  [Do.end],
  [Do.endOfStream],
])

/** Whole migrations of each kind, as programs. */
export const destinationSeeds: readonly Uint8Array[] = [
  programOf([
    [0],
    [Do.prologue],
    [Do.allPages],
    [Do.end, 3, 1, 4],
    [Do.devices],
    [Do.endOfStream],
    [Do.description],
    [Do.guestRuns],
  ]),
  programOf([[0], [Do.prologue], [Do.allPages], [Do.end], [Do.endOfStream], [Do.loadFails]]),
  programOf([[POSTCOPY], ...switched, ...rest]),
  programOf([[POSTCOPY], ...switched, [Do.pong, 3], [Do.loadFails]]),
  programOf([[POSTCOPY], ...switched, [Do.guestRuns], [Do.part, 3, 2, 4], [Do.breakOff, 1]]),
  programOf([[PREEMPT], ...switched, [Do.connect], [Do.urgent, 2, 3, 1], ...rest, [Do.endUrgent]]),
  destinationMarkedEarly,
  destinationGoneEarly,
  programOf([[HUGE], ...switched.slice(0, 2), [Do.discardAll], [Do.package], ...rest]),
  programOf([
    [RESUMED],
    [Do.recvBitmap, 0],
    [Do.recvBitmap, 1],
    [Do.resume],
    [Do.allPages, 1],
    [Do.end],
    [Do.endOfStream],
  ]),
]

/** @returns the states that it went through, and the code of its error */
export function runDestination(input: Uint8Array): string {
  const run = new Run(stepAt(input, 0))
  try {
    for (const step of stepsOf(input)) {
      actions[step.what % ACTION_COUNT]?.(run, step)
      run.rig.check()
    }
    run.rig.finish()
  } finally {
    run.rig.close()
  }
  const code = run.rig.error instanceof PostcopyError ? run.rig.error.code : ''
  return `${run.rig.states.join(' ')} ${code}`
}

export const destination: Target = {
  seeds: destinationSeeds,
  maxBytes: 200,
  run: runDestination,
}
