/** RAM files on a failing disk: strace replaces the results of a command's system calls. */
import assert from 'node:assert/strict'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Destination } from '../../src/destination/destination.js'
import { Park } from '../../src/park/index.js'
import { Source } from '../../src/source/source.js'
import { type ProgramEnd, runProgram } from '../../src/testing/run-program.js'
import { MAIN, runCli, temporaryFolder } from '../cli/support.js'
import * as stream from '../../src/stream/index.js'
import { cleanups } from '../support/cleanup.js'
import { allPages, deviceSections, prologue, ramEnd } from '../support/fake-peer.js'
import { reached } from '../support/migration.js'
import { requires } from '../support/requires.js'
import { TestMachine } from '../support/test-machine.js'

const MIB = 2 ** 20
const capabilities = { 'postcopy-ram': true }

/** A parked machine, and its directory. */
async function parkMachine(): Promise<{ here: TestMachine; directory: string }> {
  const here = new TestMachine({ blocks: { ram: MIB } })
  here.fill()
  here.start()
  const folder = await temporaryFolder()
  const directory = join(folder, 'vm')
  const park = await Park.listen({ uri: `unix:${join(folder, 'socket')}`, directory })
  cleanups.add(() => park.close())
  const source = Source.migrate(here, { uri: park.uri ?? '' })
  cleanups.add(() => source.close())
  await Promise.all([source.done, park.done])
  return { here, directory }
}

/**
 * Runs a command whose system calls on a file fail with `EIO`, from the `nth` one
 * of each thread on.
 */
function runWithErrors(
  calls: string,
  nth: number,
  file: string,
  args: readonly string[],
): Promise<ProgramEnd> {
  const strace = ['strace', '-f', '-q', '-o', '/dev/null', '-P', file]
  const fault = ['-e', `trace=${calls}`, '-e', `inject=${calls}:error=EIO:when=${nth}+`]
  return runProgram([...strace, ...fault, process.execPath, MAIN, ...args], { timeoutMs: 60_000 })
}

describe('a file of RAM that has I/O errors', () => {
  beforeEach(function () {
    requires(this, 'strace')
  })

  it('ends resume with the file, the offset and EIO; --recover then sends every page', async () => {
    const { here, directory } = await parkMachine()
    const file = join(directory, 'ram-0')
    const there = new TestMachine({ blocks: { ram: MIB } })
    const destination = await Destination.listen(there, { uri: 'tcp:127.0.0.1:0', capabilities })
    cleanups.add(() => destination.close())

    const end = await runWithErrors('preadv2', 4, file, ['resume', directory, destination.uri])
    assert.deepEqual([end.status, end.signal], [1, null], end.stderr)
    const [, offset] =
      /ram-0, 4096 bytes at offset (\d+)\).*--recover.*\[EIO\]/.exec(end.stderr) ?? []
    assert(offset !== undefined, end.stderr)
    await reached(destination, 'postcopy-paused')
    const [ram] = destination.pageArrivals
    assert(ram !== undefined && ram.received.count() > 0)
    const after = ram.received.next(Number(offset) / 4096)
    assert.equal(after, -1, 'a page that could not be read was sent')

    const uri = await destination.recover()
    const { status, stderr } = await runCli(['resume', directory, uri, '--recover'])
    assert.equal(status, 0, stderr)
    await destination.done
    assert(there.content('ram').equals(here.content('ram')))
    assert.equal(there.running, true)
  })

  for (const command of ['resume', 'inspect']) {
    it(`is named with the offset if ${command} --verify cannot read it`, async () => {
      const { directory } = await parkMachine()
      const file = join(directory, 'ram-0')
      const uris = command === 'resume' ? ['unix:/nonexistent/socket'] : []
      const args = [command, directory, ...uris, '--verify']
      const { status, signal, ...said } = await runWithErrors('pread64', 1, file, args)
      // resume prints an error, but inspect reports it among its findings: search both outputs.
      const text = said.stdout + said.stderr
      assert.deepEqual([status, signal], [1, null], text)
      assert.match(text, /EIO: pread\(.*ram-0, 1048576 bytes at offset 0\): it cannot be read/)
    })
  }

  it('is named with the offset if a saved stream cannot be read', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'stream')
    writeFileSync(file, new Uint8Array(4096))
    for (const args of [
      ['inspect', file],
      ['park', '--from', file, '--to', join(folder, 'vm')],
    ]) {
      const { status, signal, stderr } = await runWithErrors('read', 1, file, args)
      assert.deepEqual([status, signal], [1, null], stderr)
      assert.match(stderr, /EIO: pread\(.*stream, \d+ bytes at offset 0\): it cannot be read/)
    }
  })

  it('ends park with the file, the offset and EIO, and nothing is left of the VM', async () => {
    const machine = new TestMachine({ blocks: { ram: MIB } })
    machine.fill()
    const folder = await temporaryFolder()
    const file = join(folder, 'stream')
    const bytes = stream.encode((out) => {
      out.bytes(prologue(machine, { postcopy: false }))
      out.bytes(ramEnd(allPages(machine))).bytes(deviceSections(machine))
      stream.encodeEndOfStream(out)
    })
    writeFileSync(file, bytes)
    const written = join(folder, 'vm.partial', 'ram-0')
    const args = ['park', '--from', file, '--to', join(folder, 'vm')]
    const { status, signal, stderr } = await runWithErrors('pwrite64,pwritev', 2, written, args)
    assert.deepEqual([status, signal], [1, null], stderr)
    assert.match(stderr, /EIO: pwrite\(ram-0 \(RAM block "ram"\) \+ \d+\)/)
    assert.deepEqual(readdirSync(folder), ['stream'])
  })
})
