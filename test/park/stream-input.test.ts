/** Sources of a saved stream: a file, a FIFO or standard input. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, constants, openSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Park, ParkedVm } from '../../src/park/index.js'
import { Cli, runCli, temporaryFolder } from '../cli/support.js'
import { golden } from '../stream/golden.js'
import { cleanups } from '../support/cleanup.js'

async function makeFifo(): Promise<{ folder: string; fifo: string; directory: string }> {
  const folder = await temporaryFolder()
  const fifo = join(folder, 'fifo')
  execFileSync('mkfifo', [fifo])
  return { folder, fifo, directory: join(folder, 'vm') }
}

/** A writer that opens the FIFO and writes nothing. */
function openSilently(fifo: string): void {
  const fd = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK)
  cleanups.add(() => closeSync(fd))
}

describe('a park that reads a FIFO', () => {
  for (const [title, begin] of [
    ['without a writer', () => undefined],
    ['with a silent writer', openSilently],
  ] as const) {
    it(`${title} ends by close()`, async () => {
      const { folder, fifo, directory } = await makeFifo()
      begin(fifo)
      const park = Park.fromFile({ file: fifo, directory })
      const ended = assert.rejects(park.done, { code: 'ERR_CLOSED' })
      const states: string[] = []
      await new Promise<void>((resolve) => {
        park.on('state', (state) => {
          states.push(state)
          if (state === 'setup') resolve()
        })
      })
      await park.close()
      await ended
      assert.deepEqual(states, ['setup', 'failed'], 'no VM is announced before its first byte')
      assert.deepEqual(readdirSync(folder), ['fifo'])
    })

    it(`${title} ends by a signal`, async () => {
      const { folder, fifo, directory } = await makeFifo()
      begin(fifo)
      const cli = new Cli(['park', '--from', fifo, '--to', directory])
      await cli.seen(/waiting for a VM from/)
      cli.child.kill('SIGINT')
      const { status, stderr } = await cli.ended
      assert.notEqual(status, 0)
      assert.doesNotMatch(stderr, /receiving a VM/)
      assert.deepEqual(readdirSync(folder), ['fifo'])
    })
  }

  it('parks a stream that is written in pieces', async () => {
    const { fifo, directory } = await makeFifo()
    const park = Park.fromFile({ file: fifo, directory })
    cleanups.add(() => park.close())
    const bytes = golden('precopy')
    execFileSync('sh', ['-c', `(head -c 1000; sleep 0.1; cat) > ${fifo}`], { input: bytes })
    await park.done
    ParkedVm.open(directory, { verify: true }).close()
  })
})

describe('postcopy park --from', () => {
  it('reports a VM when its first bytes have been received', async () => {
    const { fifo, directory } = await makeFifo()
    const cli = new Cli(['park', '--from', fifo, '--to', directory])
    await cli.seen(/waiting for a VM from \S+fifo\n/)
    assert.doesNotMatch(cli.stderr, /receiving a VM/)
    execFileSync('sh', ['-c', `cat > ${fifo}`], { input: golden('precopy') })
    const { status, stderr } = await cli.ended
    assert.equal(status, 0, stderr)
    assert.match(stderr, /waiting for a VM from .*\n.*receiving a VM/)
  })

  it('reports the end of an empty stream', async () => {
    const directory = join(await temporaryFolder(), 'vm')
    const { status, stderr } = await runCli(['park', '--from', '-', '--to', directory])
    assert.equal(status, 1)
    assert.match(stderr, /waiting for a VM from standard input\n/)
    assert.match(stderr, /ended in the middle of the migration, at stream offset 0/)
    assert.doesNotMatch(stderr, /receiving a VM/)
  })

  it('reads standard input', async () => {
    const directory = join(await temporaryFolder(), 'vm')
    const cli = new Cli(['park', '--from', '-', '--to', directory])
    cli.child.stdin?.end(golden('precopy'))
    const { status, stderr } = await cli.ended
    assert.equal(status, 0, stderr)
    ParkedVm.open(directory, { verify: true }).close()
  })

  it('reports a missing file, and creates nothing', async () => {
    const folder = await temporaryFolder()
    const missing = join(folder, 'missing')
    const { status, stderr } = await runCli(['park', '--from', missing, '--to', join(folder, 'vm')])
    assert.equal(status, 1)
    assert.match(stderr, /missing: no such file \[ENOENT\]/)
    assert.deepEqual(readdirSync(folder), [])
  })
})
