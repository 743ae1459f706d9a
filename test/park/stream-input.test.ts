/** Where a saved stream comes from: a file, a FIFO or standard input. */
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

/** A writer that has the FIFO open and is silent. */
function openSilently(fifo: string): void {
  const fd = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK)
  cleanups.add(() => closeSync(fd))
}

describe('a park that reads a FIFO', () => {
  for (const [title, begin] of [
    ['that has no writer', () => undefined],
    ['whose writer is silent', openSilently],
  ] as const) {
    it(`${title} ends by close()`, async () => {
      const { folder, fifo, directory } = await makeFifo()
      begin(fifo)
      const park = Park.fromFile({ file: fifo, directory })
      const ended = assert.rejects(park.done, { code: 'ERR_CLOSED' })
      await new Promise<void>((resolve) => {
        park.on('state', (state) => {
          if (state === 'active') resolve()
        })
      })
      await park.close()
      await ended
      assert.deepEqual(readdirSync(folder), ['fifo'])
    })

    it(`${title} ends by a signal`, async () => {
      const { folder, fifo, directory } = await makeFifo()
      begin(fifo)
      const cli = new Cli(['park', '--from', fifo, '--to', directory])
      await cli.seen(/a VM is coming/)
      cli.child.kill('SIGINT')
      const { status } = await cli.ended
      assert.notEqual(status, 0)
      assert.deepEqual(readdirSync(folder), ['fifo'])
    })
  }

  it('parks what its writer sends in pieces', async () => {
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
  it('reads standard input', async () => {
    const directory = join(await temporaryFolder(), 'vm')
    const cli = new Cli(['park', '--from', '-', '--to', directory])
    cli.child.stdin?.end(golden('precopy'))
    const { status, stderr } = await cli.ended
    assert.equal(status, 0, stderr)
    ParkedVm.open(directory, { verify: true }).close()
  })

  it('says that there is no such file, and makes nothing', async () => {
    const folder = await temporaryFolder()
    const missing = join(folder, 'missing')
    const { status, stderr } = await runCli(['park', '--from', missing, '--to', join(folder, 'vm')])
    assert.equal(status, 1)
    assert.match(stderr, /missing: there is no such file \[ENOENT\]/)
    assert.deepEqual(readdirSync(folder), [])
  })
})
