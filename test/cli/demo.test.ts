import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { lendHugePages } from '../support/huge-pages.js'
import { requires } from '../support/requires.js'
import { runInside } from './inside.js'
import { Cli, type CliResult, isAlive, runCli, temporaryFolder } from './support.js'

interface DemoObject {
  status: string
  verified: boolean
  'total-time': number
  downtime: number
  ram: Record<string, number>
  'x-pages': Record<string, number>
  'x-work-after-switch': number
  'postcopy-vcpu-blocktime'?: number[]
  'postcopy-latency-dist'?: number[]
  'error-desc'?: string
  'x-error-code'?: string
}

const small = ['demo', '--json', '--ram', '64M', '--workload', 'random:writes=30,rate=50000']

async function demo(...args: readonly string[]): Promise<DemoObject> {
  const { status, stdout, stderr } = await runInside([...small, ...args])
  assert.equal(status, 0, stderr)
  const [line = '', ...more] = stdout.trim().split('\n').reverse()
  assert.deepEqual(more, [], 'only the object goes to stdout')
  const object = JSON.parse(line) as DemoObject
  assert.equal(object.status, 'completed')
  assert.equal(object.verified, true)
  assert(object['x-work-after-switch'] > 0)
  return object
}

describe('postcopy demo --json', () => {
  const postcopies: readonly (readonly string[])[] = [
    ['--postcopy-after', 'now', '--vcpus', '3'],
    ['--postcopy-after', 'now', '--memory', 'memfd', '--user-mode-only'],
  ]
  for (const args of postcopies) {
    it(`moves a guest with ${args.join(' ')}`, async () => {
      // So large that a vCPU gets the processor before all pages are pushed, on a busy host, too.
      const object = await demo('--ram', '256M', ...args)
      const pages = object['x-pages']
      assert((object.ram['postcopy-requests'] ?? 0) > 0)
      assert.equal(object.ram['precopy-bytes'], 0)
      assert.equal((pages['pushed'] ?? 0) + (pages['requested'] ?? 0), pages['discarded'])
      const faults = object['postcopy-latency-dist']?.reduce((sum, count) => sum + count, 0) ?? 0
      assert(faults >= (pages['requested'] ?? 0))
      assert.equal(object['postcopy-vcpu-blocktime']?.length, args.includes('3') ? 3 : 2)
    })
  }

  describe('on huge pages', () => {
    lendHugePages(64)

    it('moves a guest with --memory hugetlb', async function () {
      requires(this, 'hugePages')
      const { 'x-pages': pages } = await demo('--postcopy-after', 'now', '--memory', 'hugetlb')
      assert((pages['requested'] ?? 0) > 0)
      // The ledger has small pages, at most 16 of them.
      assert((pages['requested'] ?? 0) >= 512)
      assert((pages['requested'] ?? 0) % 512 <= 16, 'whole host pages')
    })
  })

  it('switches after some time', async () => {
    const { ram } = await demo('--postcopy-after', '10')
    assert((ram['postcopy-bytes'] ?? 0) > 0)
  })

  it('migrates by plain precopy with --postcopy-after never', async () => {
    const { ram, ...object } = await demo('--ram', '16M', '--postcopy-after', 'never')
    assert.equal(ram['postcopy-requests'], 0)
    assert.equal(ram['postcopy-bytes'], 0)
    assert.equal(object['x-pages']['precopied'], (ram['total'] ?? 0) / 4096)
    assert.equal(object['postcopy-vcpu-blocktime'], undefined)
  })

  it('verifies an idle guest, too', async () => {
    const { status, stdout } = await runInside([...small, '--ram', '16M', '--workload', 'idle'])
    assert.equal(status, 0)
    assert.equal((JSON.parse(stdout) as DemoObject).verified, true)
  })

  it('fails with the error code of a guest that cannot be created', async () => {
    const { status, stdout, stderr } = await runInside([...small, '--ram', '99999G'])
    assert.equal(status, 1)
    const object = JSON.parse(stdout) as DemoObject
    assert.equal(object['x-error-code'], 'ERR_INVALID_MACHINE')
    const text = /^(.*97\.7 TiB of RAM is too much[^\]]*) \[ERR_INVALID_MACHINE\]\n$/.exec(
      stderr,
    )?.[1]
    assert.equal(text, `postcopy: ${object['error-desc']}`, stderr)
  })

  it('exits with status 1 and prints a JSON object if the guest cannot be created', async () => {
    const { status, stdout, stderr } = await runInside([
      ...small,
      '--ram',
      '64M',
      '--workload',
      'sweep:hot=1G',
    ])
    assert.equal(status, 1)
    const object = JSON.parse(stdout) as DemoObject
    assert.equal(object.verified, false)
    assert.match(object['error-desc'] ?? '', /hot=1\.00 GiB is more than/)
    assert.match(stderr, /^postcopy: .*hot=1\.00 GiB is more than/m)
  })
})

describe('postcopy demo', () => {
  describe('with --report', () => {
    let result: CliResult
    let page: string

    before(async () => {
      const path = join(await temporaryFolder(), 'report.html')
      const args = ['demo', '--ram', '64M', '--postcopy-after', 'now', '--report', path]
      result = await runCli(args)
      page = await readFile(path, 'utf8').catch(() => '')
    })

    it('prints its progress and its verdict', () => {
      const { status, stdout, stderr } = result
      assert.equal(status, 0, stderr)
      assert.match(stderr, /source> migrate -d tcp:127\.0\.0\.1:\d+\n/)
      for (const row of [
        ...['total time', 'downtime', 'pages requested', 'fault latency', 'blocktime'],
      ]) {
        assert(stdout.includes(row), row)
      }
      assert.match(stdout, /✔ verified: 16,384 pages are right/)
    })

    it('writes a self-contained report', () => {
      // Two page maps, and plots of fault latency, rates and work.
      assert.equal(page.match(/<svg /g)?.length, 5)
      assert.match(page, /verified: 16,384 pages are right/)
      assert(!/<script|<link|<img|@import|url\((?!#)/.test(page), 'nothing is loaded')
      const addresses = new Set(page.match(/https?:\/\/[^"]+/g))
      assert.deepEqual([...addresses].sort(), [
        'http://www.w3.org/1999/xlink',
        'http://www.w3.org/2000/svg',
      ])
    })
  })

  it('writes one picture if the name of the report ends with .svg', async () => {
    const path = join(await temporaryFolder(), 'report.svg')
    const args = ['demo', '--ram', '16M', '--postcopy-after', 'now', '--report', path]
    const { status } = await runInside(args)
    assert.equal(status, 0)
    const picture = await readFile(path, 'utf8')
    assert.match(picture, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" /)
    // The same five charts, each with a place of its own.
    const places = [
      ...picture.matchAll(/<g transform="translate\(24, (\d+)\)"><svg width="960" height="\d+"/g),
    ]
    const tops = places.map(([, y]) => Number(y))
    assert.equal(tops.length, 5)
    assert.deepEqual(
      tops,
      [...new Set(tops)].sort((a, b) => a - b),
    )
    assert.match(picture, /verified: 4,096 pages are right/)
    assert(!/<script|<link|<image|@import|url\((?!#)/.test(picture), 'nothing is loaded')
  })

  const moments: readonly (readonly [string, readonly string[], RegExp])[] = [
    ['while it starts', ['--ram', '32M'], /runs in process/],
    ['in precopy', ['--postcopy-after', 'never'], /precopy: /],
    ['in postcopy', ['--postcopy-after', 'now'], /postcopy: the guest runs/],
    ['at the end', ['--ram', '32M', '--postcopy-after', 'now'], /destination> verify/],
  ]
  for (const [moment, args, pattern] of moments) {
    it(`leaves no process running after SIGTERM ${moment}`, async () => {
      const cli = new Cli(['demo', '--ram', '128M', ...args])
      const [, source, destination] = await cli.seen(/runs in process (\d+); process (\d+) waits/)
      await cli.seen(pattern)
      cli.child.kill('SIGTERM')
      const { status } = await cli.ended
      // The demo may have ended before the signal arrives.
      assert(status === 128 + 15 || (moment === 'at the end' && status === 0), String(status))
      await gone(Number(source), Number(destination))
    })
  }

  it('leaves no process running when it is killed', async () => {
    const cli = new Cli(['demo', '--ram', '16M', '--postcopy-after', 'now'])
    const [, source, destination] = await cli.seen(/runs in process (\d+); process (\d+) waits/)
    cli.child.kill('SIGKILL')
    await cli.ended
    await gone(Number(source), Number(destination))
  })
})

async function gone(...pids: readonly number[]): Promise<void> {
  for (const deadline = Date.now() + 10_000; pids.some(isAlive);) {
    assert(Date.now() < deadline, `still there: ${pids.filter(isAlive).join(', ')}`)
    await sleep(20)
  }
}
