import assert from 'node:assert/strict'
import {
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { type Manifest, ParkedVm, WorkingSet, inspectParked } from '../../src/park/index.js'
import { decodeWorkingSet } from '../../src/park/working-set-file.js'
import { runInside } from '../cli/inside.js'
import { golden } from '../stream/golden.js'
import { cleanups } from '../support/cleanup.js'
import { parkBytes } from './support.js'

async function parked(): Promise<ParkedVm> {
  const { directory } = await parkBytes(golden('precopy'))
  const vm = ParkedVm.open(directory)
  cleanups.add(() => vm.close())
  return vm
}

/** Saves the pages of the first block that a clone has requested. */
function learn(vm: ParkedVm, pages: readonly number[], file?: string): WorkingSet {
  const workingSet = WorkingSet.open(vm, file === undefined ? {} : { file })
  const order = workingSet.begin(vm)
  for (const page of pages) order.add(0, page, page + 1)
  workingSet.save()
  return workingSet
}

function runsOf(file: string): unknown {
  return (JSON.parse(readFileSync(file, 'utf8')) as { runs: unknown }).runs
}

describe('a working set', () => {
  it('is empty at first, and writes no file if no page was requested', async () => {
    const vm = await parked()
    const workingSet = WorkingSet.open(vm)
    workingSet.begin(vm)
    assert.equal(workingSet.pageCount, 0)
    assert.equal(workingSet.save(), 0)
    assert(!readdirSync(vm.directory).includes('working-set'))
  })

  it("is kept in the VM's directory, only for its owner, in the order of the requests", async () => {
    const vm = await parked()
    const { file } = learn(vm, [30, 7, 8, 7])
    assert.equal(file, join(vm.directory, 'working-set'))
    assert.deepEqual(runsOf(file), [0, 30, 1, 0, 7, 2])
    assert.equal(statSync(file).mode & 0o777, 0o600)
    const again = WorkingSet.open(vm)
    assert.equal(again.pageCount, 3)
    assert.deepEqual(again.begin(vm).toArray(), [0, 30, 1, 0, 7, 2])
    // The temporary file of the atomic replacement must not remain.
    const left = readdirSync(vm.directory).filter((name) => name.startsWith('working-set'))
    assert.deepEqual(left, ['working-set'])
  })

  it('is kept in another file if the user gives one', async () => {
    const vm = await parked()
    const file = `${vm.directory}.elsewhere`
    learn(vm, [1], file)
    assert.deepEqual(runsOf(file), [0, 1, 1])
    assert(!readdirSync(vm.directory).includes('working-set'))
  })

  it('grows by the pages that are still requested, each page once', async () => {
    const vm = await parked()
    learn(vm, [30, 7])
    const { file } = learn(vm, [7, 99, 30])
    assert.deepEqual(runsOf(file), [0, 30, 1, 0, 7, 1, 0, 99, 1])
    const { mtimeMs } = statSync(file)
    learn(vm, [30])
    assert.equal(statSync(file).mtimeMs, mtimeMs, 'nothing new, nothing written')
  })

  it('merges the requests of several clones and processes', async () => {
    const vm = await parked()
    const workingSet = WorkingSet.open(vm)
    const [one, two] = [workingSet.begin(vm), workingSet.begin(vm)]
    one.add(0, 1, 2)
    two.add(0, 3, 4)
    two.add(0, 1, 2)
    const { file } = learn(vm, [9])
    assert.equal(workingSet.save(), 2)
    assert.deepEqual(runsOf(file), [0, 9, 1, 0, 1, 1, 0, 3, 1])
    assert.equal(workingSet.save(), 0)
  })

  it('of another VM is refused, and not used', async () => {
    const [vm, other] = [await parked(), await parked()]
    const { file } = learn(other, [3])
    assert.throws(() => WorkingSet.open(vm, { file }), {
      code: 'ERR_WORKING_SET_FOREIGN',
      message: `${file} is the working set of another parked VM: give another file`,
    })
    assert.throws(() => WorkingSet.open(vm).begin(other), { code: 'ERR_WORKING_SET_FOREIGN' })
  })

  it('belongs to a copy of its VM, too', async () => {
    const vm = await parked()
    const { file } = learn(vm, [3])
    const path = `${vm.directory}.copy`
    const record = structuredClone(vm.manifest)
    const copy = { path, workingSetFile: join(path, 'working-set'), record }
    assert.equal(WorkingSet.open(copy, { file }).pageCount, 1)
  })

  it('that cannot be used counts as empty and is replaced, if that is allowed', async () => {
    const vm = await parked()
    const file = join(vm.directory, 'working-set')
    writeFileSync(file, 'hello')
    const unusable: string[] = []
    const workingSet = WorkingSet.open(vm, { onUnusable: ({ code }) => unusable.push(code) })
    assert.deepEqual(unusable, ['ERR_WORKING_SET_FORMAT'])
    assert.equal(workingSet.save(), 0)
    assert.equal(readFileSync(file, 'utf8'), 'hello', 'not replaced by nothing')
    workingSet.begin(vm).add(0, 4, 5)
    workingSet.save()
    assert.deepEqual(runsOf(file), [0, 4, 1])
  })

  it('does not replace a file of another kind', async () => {
    const vm = await parked()
    const file = join(vm.directory, 'working-set')
    const workingSet = WorkingSet.open(vm)
    workingSet.begin(vm).add(0, 4, 5)
    writeFileSync(file, 'hello')
    assert.throws(() => workingSet.save(), { code: 'ERR_WORKING_SET_FORMAT' })
    assert.equal(readFileSync(file, 'utf8'), 'hello')
  })

  it('reports a path that cannot be written', async () => {
    const vm = await parked()
    const nowhere = join(vm.directory, 'no', 'file')
    assert.throws(() => WorkingSet.open(vm, { file: nowhere }), {
      code: 'ENOENT',
      message: /cannot be kept: no such directory/,
    })
    const workingSet = WorkingSet.open(vm, { file: '/proc/working-set' })
    workingSet.begin(vm).add(0, 4, 5)
    assert.throws(() => workingSet.save(), /\/proc\/working-set cannot be written \(E/)
  })
})

describe('the file of a working set', () => {
  /** The content of a working set file, which an attacker could have changed. */
  type Whole = Record<string, unknown> & { runs: unknown[]; blocks: Record<string, unknown>[] }
  const cases: readonly (readonly [string, (whole: Whole) => unknown, RegExp])[] = [
    ['a list', () => [], /must be an object/],
    ['no format', (whole) => delete whole['format'], /format must be "postcopy-working-set"/],
    ['another format', (whole) => (whole['format'] = 'postcopy-parked-vm'), /format must be/],
    ['a later version', (whole) => (whole['formatVersion'] = 2), /use a newer postcopy/],
    ['no version', (whole) => delete whole['formatVersion'], /formatVersion must be a count/],
    ['no VM', (whole) => delete whole['parkedVm'], /parkedVm must be text/],
    ["another VM's", (whole) => (whole['parkedVm'] = '0'), /another parked VM/],
    ['other pages', (whole) => (whole['pageSizeBytes'] = 65536), /pageSizeBytes must be 4096/],
    ['one block less', (whole) => whole.blocks.pop(), /blocks must be those of the manifest/],
    [
      'a longer block',
      ({ blocks }) => (blocks[0] = { ...blocks[0], lengthBytes: 2 ** 40 }),
      /blocks/,
    ],
    ['no runs', (whole) => delete (whole as Partial<Whole>).runs, /runs must be a list/],
    ['half a run', ({ runs }) => runs.pop(), /three numbers each/],
    ['text for a number', ({ runs }) => (runs[1] = '30'), /run 0 is not three numbers/],
    ['half a page', ({ runs }) => (runs[1] = 0.5), /run 0 is not three numbers/],
    ['a page before the first', ({ runs }) => (runs[1] = -1), /run 0 is not three numbers/],
    ['a block that does not exist', ({ runs }) => (runs[0] = 99), /run 0 is in block 99/],
    ['a page after the last', ({ runs }) => (runs[1] = 4096), /run 0 \(pages 4096 \+ 1\)/],
    ['a run too long', ({ runs }) => (runs[2] = 2 ** 50), /is outside its block/],
    ['an empty run', ({ runs }) => (runs[2] = 0), /is outside its block/],
    ['a page twice', ({ runs }) => runs.push(0, 30, 1), /its runs overlap/],
    ['a wrong count', (whole) => (whole['pageCount'] = 4), /pageCount must be 3/],
    [
      'too many runs',
      (whole) => (whole.runs = Array.from({ length: 3 * (2 ** 20 + 1) }, () => 0)),
      /more than 1048576 runs/,
    ],
  ]
  let vm: ParkedVm
  let manifest: Manifest
  let text: string

  beforeEach(async () => {
    vm = await parked()
    manifest = vm.manifest
    text = readFileSync(learn(vm, [30, 7, 8]).file, 'utf8')
  })

  it('is read back unchanged', () => {
    assert.deepEqual(decodeWorkingSet(text, 'x', manifest).toArray(), [0, 30, 1, 0, 7, 2])
  })

  for (const [title, change, pattern] of cases) {
    it(`is refused with ${title}`, () => {
      const whole = JSON.parse(text) as Whole
      const changed = change(whole)
      const damaged = JSON.stringify(title === 'a list' ? changed : whole)
      assert.throws(
        () => decodeWorkingSet(damaged, 'x', manifest),
        (error: Error & { code: string }) => {
          assert.match(error.code, /^ERR_WORKING_SET_(FORMAT|VERSION|FOREIGN)$/)
          assert.match(error.message, pattern)
          assert(error.message.length < 1000)
          return true
        },
      )
    })
  }

  it('is refused if truncated anywhere', () => {
    for (let length = 0; length < text.length - 1; length += 1) {
      assert.throws(() => decodeWorkingSet(text.slice(0, length), 'x', manifest), {
        code: 'ERR_WORKING_SET_FORMAT',
      })
    }
  })

  it('is refused before it is read if it is too large, or not a file', () => {
    const file = join(vm.directory, 'working-set')
    truncateSync(file, 2 ** 40)
    assert.throws(() => WorkingSet.open(vm), /is larger than \d+ bytes/)
    const folder = `${file}.folder`
    mkdirSync(folder)
    assert.throws(() => WorkingSet.open(vm, { file: folder }), /is not a regular file/)
  })

  it('is reported by inspect, and not as an oddity', async () => {
    const report = inspectParked(vm.directory)
    assert.deepEqual(report.workingSet, { pageCount: 3 })
    assert.deepEqual(report.oddities, [])
    const { stdout } = await runInside(['inspect', vm.directory])
    assert.match(stdout, /^working set: 3 pages \(12\.0 KiB\), pushed first by resume$/m)
    assert.doesNotMatch(stdout, /odd/)
  })

  it('is an oddity for inspect if it is damaged, and the VM is not', () => {
    writeFileSync(join(vm.directory, 'working-set'), text.slice(1))
    const { workingSet, oddities, error } = inspectParked(vm.directory)
    assert.equal(workingSet, undefined)
    assert.match(oddities.join(), /working-set is not JSON/)
    assert.equal(error, undefined)
  })
})
