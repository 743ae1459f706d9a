/**
 * A parked machine of ours is resumed again and again: pages once requested are then pushed first.
 */
import assert from 'node:assert/strict'
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Destination } from '../../src/destination/destination.js'
import type { Parameters } from '../../src/migration/options.js'
import { PUSH_NEVER } from '../../src/migration/options.js'
import { Park, ParkedVm, WorkingSet, resume } from '../../src/park/index.js'
import type { Source } from '../../src/source/source.js'
import { runCli, temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import { ended, listenFor, migrateTo, postcopy, reached } from '../support/migration.js'
import { TestMachine } from '../support/test-machine.js'

const PAGE = 4096
/** The pages that the guest touches: scattered, and not in the order of its memory. */
const TOUCHED = Array.from({ length: 200 }, (_, index) => (index * 617 + 1900) % 2048)
const onDemand = { 'x-push-after-quiet-ms': PUSH_NEVER }

interface Clone {
  readonly there: TestMachine
  readonly destination: Destination
  readonly source: Source
}

function filledMachine(): TestMachine {
  const here = new TestMachine()
  here.fill()
  here.devices.set('disk', Uint8Array.of(1))
  return here
}

async function park(directory: string): Promise<void> {
  const here = filledMachine()
  here.start()
  const end = await Park.listen({ uri: `unix:${directory}.socket`, directory })
  cleanups.add(() => end.close())
  const source = migrateTo(end.uri ?? '', here)
  await Promise.all([source.done, end.done])
}

/** A folder with the parked machine that the tests copy. */
let original: string | undefined

after(() => {
  if (original !== undefined) rmSync(original, { recursive: true })
})

/** Copies a machine that was parked once, unless it has to be another VM. */
async function parkMachine({ isOther = false } = {}): Promise<{ here: TestMachine; vm: ParkedVm }> {
  const directory = join(await temporaryFolder(), 'vm')
  if (isOther) await park(directory)
  else {
    if (original === undefined) {
      const folder = mkdtempSync(join(tmpdir(), 'postcopy-test-'))
      await park(join(folder, 'vm'))
      original = folder
    }
    cpSync(join(original, 'vm'), directory, { recursive: true })
  }
  const vm = ParkedVm.open(directory)
  cleanups.add(() => vm.close())
  return { here: filledMachine(), vm }
}

/** Starts a clone; its guest runs when this returns. */
async function begin(
  vm: ParkedVm,
  workingSet: WorkingSet | undefined,
  parameters: Partial<Parameters> = onDemand,
  capabilities = {},
): Promise<Clone> {
  const there = new TestMachine()
  const destination = await listenFor(there, { capabilities: { ...postcopy, ...capabilities } })
  const source = resume(vm, {
    uri: destination.uri,
    parameters,
    capabilities,
    ...(workingSet === undefined ? {} : { workingSet }),
  })
  cleanups.add(() => source.close())
  await reached(source, 'postcopy-active')
  return { there, destination, source }
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let looks = 0; !condition(); looks += 1) {
    assert(looks < 10_000, what)
    await sleep(2)
  }
}

/** Waits until all replayed pages have been placed: any other missing page has to be requested. */
async function replayed({ source, destination }: Clone, pages: number): Promise<void> {
  const placed = (): number => destination.counters.normalPages + destination.counters.zeroPages
  await until(`${pages} pages are pushed`, () => placed() >= pages)
  assert.equal(source.counters.replayedPages, pages)
}

/** A missing page parks this thread, but not the workers. */
function touch({ there }: Clone, pages: readonly number[]): void {
  for (const page of pages) there.byteAt('ram', page * PAGE)
}

/** Has the other pages sent, and compares all of them. */
async function finish({ there, destination, source }: Clone, here: TestMachine): Promise<void> {
  source.setParameters({ 'x-push-after-quiet-ms': 0, 'max-postcopy-bandwidth': 0 })
  await Promise.all([source.done, destination.done])
  for (const { name } of here.blocks) assert(there.content(name).equals(here.content(name)), name)
}

/** Saves a working set, as if a clone had requested these pages. */
function learn(vm: ParkedVm, pages: readonly number[], block = 0): WorkingSet {
  const workingSet = WorkingSet.open(vm)
  const order = workingSet.begin(vm)
  for (const page of pages) order.add(block, page, page + 1)
  workingSet.save()
  return workingSet
}

function pagesIn(file: string): number[] {
  const { runs } = JSON.parse(readFileSync(file, 'utf8')) as { runs: number[] }
  const pages: number[] = []
  for (let at = 0; at < runs.length; at += 3) {
    assert.equal(runs[at], 0, 'the first block')
    const [first = 0, count = 0] = runs.slice(at + 1, at + 3)
    for (let page = first; page < first + count; page += 1) pages.push(page)
  }
  return pages
}

describe('a parked machine that is resumed again', () => {
  for (const capabilities of [{}, { 'postcopy-preempt': true }]) {
    const how = Object.keys(capabilities).join('') || 'one connection'
    it(`requests no page that it requested the first time, by ${how}`, async () => {
      const { here, vm } = await parkMachine()
      const learning = WorkingSet.open(vm)
      const first = await begin(vm, learning, onDemand, capabilities)
      touch(first, TOUCHED)
      assert.equal(first.source.counters.requestedPages, TOUCHED.length)
      await finish(first, here)
      assert.equal(learning.save(), TOUCHED.length)
      assert.deepEqual(pagesIn(learning.file), TOUCHED)

      const known = WorkingSet.open(vm)
      assert.equal(known.pageCount, TOUCHED.length)
      const again = await begin(vm, known, onDemand, capabilities)
      await replayed(again, TOUCHED.length)
      touch(again, TOUCHED)
      const { requestedPages, remainingPages } = again.source.counters
      assert.equal(requestedPages, 0)
      const all = here.blocks.reduce((sum, { lengthBytes }) => sum + lengthBytes / PAGE, 0)
      assert.equal(remainingPages, all - TOUCHED.length, 'nothing else was pushed')
      await finish(again, here)
      assert.equal(known.save(), 0)
    })
  }

  it('requests all of them again if the working set has other pages', async () => {
    const { here, vm } = await parkMachine()
    const wrong = TOUCHED.map((page) => page % 512)
    learn(vm, wrong, 1)
    const clone = await begin(vm, WorkingSet.open(vm))
    await replayed(clone, new Set(wrong).size)
    touch(clone, TOUCHED)
    assert.equal(clone.source.counters.requestedPages, TOUCHED.length)
    await finish(clone, here)
  })

  it('requests new pages, which the next resume pushes, too', async () => {
    const { here, vm } = await parkMachine()
    for (const [round, pages] of [TOUCHED.slice(0, 50), TOUCHED.slice(0, 80)].entries()) {
      const workingSet = WorkingSet.open(vm)
      const clone = await begin(vm, workingSet)
      await replayed(clone, workingSet.pageCount)
      touch(clone, pages)
      assert.equal(clone.source.counters.requestedPages, round === 0 ? 50 : 30)
      await finish(clone, here)
      workingSet.save()
    }
    assert.deepEqual(pagesIn(WorkingSet.open(vm).file), TOUCHED.slice(0, 80))
  })

  it('receives a requested page before those that are pushed', async () => {
    const { here, vm } = await parkMachine()
    learn(
      vm,
      Array.from({ length: 2000 }, (_, page) => page),
    )
    // At most one batch is sent before the limit delays the next one by a minute.
    const slow = { ...onDemand, 'max-postcopy-bandwidth': 8192 }
    const clone = await begin(vm, WorkingSet.open(vm), slow)
    touch(clone, [1999, 2047, 1000])
    assert.equal(clone.source.counters.requestedPages, 3)
    assert(clone.source.counters.replayedPages < 1000)
    await finish(clone, here)
  })

  it('twice at once records the requests of both', async () => {
    const { here, vm } = await parkMachine()
    const shared = WorkingSet.open(vm)
    const apart = WorkingSet.open(vm)
    const clones = [await begin(vm, shared), await begin(vm, shared), await begin(vm, apart)]
    for (const [index, clone] of clones.entries()) touch(clone, TOUCHED.slice(index, index + 20))
    await Promise.all(clones.map((clone) => finish(clone, here)))
    assert.equal(shared.save(), 21)
    assert.equal(apart.save(), 1)
    assert.deepEqual(pagesIn(shared.file), TOUCHED.slice(0, 22))
  })

  it('keeps the requests recorded before a break, and uses them in the recovery', async () => {
    const { here, vm } = await parkMachine()
    const workingSet = WorkingSet.open(vm)
    const clone = await begin(vm, workingSet)
    touch(clone, TOUCHED.slice(0, 20))
    clone.source.pause()
    await Promise.all([ended(clone.source), ended(clone.destination)])
    assert.equal(workingSet.save(), 20)

    const uri = await clone.destination.recover('tcp:127.0.0.1:0')
    await clone.source.recover(uri)
    await reached(clone.source, 'postcopy-active')
    touch(clone, TOUCHED.slice(0, 30))
    assert.equal(workingSet.save(), 10)
    await finish(clone, here)
    assert.deepEqual(pagesIn(workingSet.file), TOUCHED.slice(0, 30))
  })
})

describe('postcopy resume and its working set', () => {
  interface Outcome {
    status: number | null
    stderr: string
    requestedPages: number
    replayedPages: number
  }

  /** Uses the command; a device touches pages while it loads. */
  async function resumeByCommand(
    vm: ParkedVm,
    here: TestMachine,
    ...args: string[]
  ): Promise<Outcome> {
    const there = new TestMachine({
      onLoad: (idstr, _data, machine) => {
        if (idstr !== 'disk') return
        for (const page of TOUCHED.slice(0, 20)) machine.byteAt('ram', page * PAGE)
      },
    })
    const destination = await listenFor(there, { capabilities: postcopy })
    const command = ['resume', vm.directory, destination.uri, '--json', '--on-demand=700', ...args]
    const { status, stdout, stderr } = await runCli(command)
    if (status !== 0) return { status, stderr, requestedPages: 0, replayedPages: 0 }
    await destination.done
    assert(there.content('ram').equals(here.content('ram')))
    return { ...(JSON.parse(stdout) as Outcome), status, stderr }
  }

  it('keep it in the directory of the VM, and use it the next time', async () => {
    const { here, vm } = await parkMachine()
    const file = join(vm.directory, 'working-set')
    const first = await resumeByCommand(vm, here)
    assert.equal(first.status, 0)
    assert.deepEqual([first.requestedPages, first.replayedPages], [20, 0])
    assert.match(first.stderr, /added 20 pages to the working set \S+\/vm\/working-set\n/)
    assert.deepEqual(pagesIn(file), TOUCHED.slice(0, 20))
    // The pages that the device touches are requested before anything is pushed.
    learn(vm, TOUCHED.slice(20, 40))
    const again = await resumeByCommand(vm, here)
    assert(again.replayedPages >= 20)
    assert.deepEqual(pagesIn(file), TOUCHED.slice(0, 40))
    assert.doesNotMatch(again.stderr, /working set/)
  })

  it('keep it in a given file, or not at all', async () => {
    const { here, vm } = await parkMachine()
    const files = readdirSync(vm.directory)
    await resumeByCommand(vm, here, '--no-working-set')
    const file = `${vm.directory}.elsewhere`
    await resumeByCommand(vm, here, '--working-set', file)
    assert.deepEqual(pagesIn(file), TOUCHED.slice(0, 20))
    assert.deepEqual(readdirSync(vm.directory), files)
  })

  it('continue without a damaged one, with a message', async () => {
    const { here, vm } = await parkMachine()
    const file = join(vm.directory, 'working-set')
    writeFileSync(file, '{"format": "postcopy-working-set"')
    const { status, stderr } = await resumeByCommand(vm, here)
    assert.equal(status, 0)
    assert.match(
      stderr,
      /^postcopy: the working set cannot be used, and will be replaced: \S+ is not JSON \[ERR_WORKING_SET_FORMAT\]$/m,
    )
    assert.deepEqual(pagesIn(file), TOUCHED.slice(0, 20))
  })

  it('do not fail if it cannot be written, but print a message', async () => {
    const { here, vm } = await parkMachine()
    const { status, stderr } = await resumeByCommand(vm, here, '--working-set', '/proc/working-set')
    assert.equal(status, 0)
    assert.match(
      stderr,
      /^postcopy: the working set was not written: \/proc\/working-set cannot be written/m,
    )
  })

  it('do not start if the given file belongs to another VM', async () => {
    const { here, vm } = await parkMachine()
    const { vm: other } = await parkMachine({ isOther: true })
    const { file } = learn(other, [1])
    const { status, stderr } = await resumeByCommand(vm, here, '--working-set', file)
    assert.equal(status, 1)
    assert.match(stderr, /another parked VM: give another file \[ERR_WORKING_SET_FOREIGN\]\n$/)
    assert(!existsSync(join(vm.directory, 'working-set')))
  })
})
