/** Several clones of one parked VM: one that fails does not affect the others. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { Clone } from '../../src/cli/clone.js'
import { PostcopyError } from '../../src/errors.js'
import { ParkedVm, resume } from '../../src/park/index.js'
import { parkedVm } from '../park/support.js'
import type { Source } from '../../src/source/index.js'
import { cleanups } from '../support/cleanup.js'
import { silentListener } from '../support/silent-listener.js'
import { Cli } from './support.js'

const quiet = { note: (): void => undefined }

describe('one of several clones', () => {
  it('that has ended before it is awaited has a result', async () => {
    const { directory } = await parkedVm()
    const vm = ParkedVm.open(directory)
    cleanups.add(() => vm.close())
    const uri = `unix:${join(directory, 'nothing-listens')}`
    const source = resume(vm, { uri })
    const clone = new Clone(vm, { uri, begin: () => source, isRecovery: false }, quiet)
    cleanups.add(() => clone.close())
    await assert.rejects(source.done)
    assert.equal((await clone.result).status, 'failed')
  })

  it('that cannot start does not end the others', async () => {
    const { directory } = await parkedVm()
    const vm = ParkedVm.open(directory)
    cleanups.add(() => vm.close())
    const begin = (): never => {
      throw new PostcopyError('ERR_TEST', 'cannot begin')
    }
    const clone = new Clone(vm, { uri: 'unix:x', begin, isRecovery: false }, quiet)
    const { status, error } = await clone.result
    assert.equal(status, 'failed')
    assert.equal(error?.code, 'ERR_TEST')
    clone.finishOrCancel()
    await clone.close()
  })

  it('that cannot connect leaves the others running', async () => {
    const { directory } = await parkedVm()
    const { uri, sent } = await silentListener()
    const cli = new Cli(['resume', directory, `unix:${directory}/nothing`, uri, '--json'])
    await cli.seen(/"status":"failed"/)
    await sent
    cli.child.kill('SIGINT')
    cli.child.kill('SIGTERM')
    const { stdout, stderr } = await cli.ended
    const uris = stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { uri: string }).uri)
    assert.deepEqual(uris, [`unix:${directory}/nothing`, uri], stderr)
  })

  it('that gets no answer for a time has the likely reason', async () => {
    const { directory } = await parkedVm()
    const vm = ParkedVm.open(directory)
    cleanups.add(() => vm.close())
    const { uri, sent } = await silentListener()
    const noted: string[] = []
    const told = new Promise<void>((resolve) => {
      const note = (text: string): void => {
        noted.push(text)
        resolve()
      }
      const begin = (): Source => resume(vm, { uri })
      const clone = new Clone(vm, { uri, begin, isRecovery: false, noAnswerMs: 50 }, { note })
      cleanups.add(() => clone.close())
    })
    await Promise.all([sent, told])
    assert.match(noted[0] ?? '', /after 50 ms; .*multifd or postcopy-preempt is on at one end only/)
  })
})
