import assert from 'node:assert/strict'
import { KernelError, StreamError, errorFromRecord, errorToRecord } from '../src/errors.js'

describe('errors across threads', () => {
  it('keep class, code and fields through structuredClone', () => {
    const sent = new KernelError('EPERM', -1, 'userfaultfd', { args: '0', hint: 'be root' })
    const got = errorFromRecord(structuredClone(errorToRecord(sent)))
    assert(got instanceof KernelError)
    assert.deepEqual(
      [got.code, got.errno, got.syscall, got.hint, got.message],
      ['EPERM', -1, 'userfaultfd', 'be root', 'EPERM: userfaultfd(0): be root'],
    )
  })

  it('name the stream offset', () => {
    const got = errorFromRecord(errorToRecord(new StreamError('ERR_STREAM_MAGIC', 'no magic', 7)))
    assert(got instanceof StreamError)
    assert.equal(got.streamOffset, 7)
    assert.match(got.message, /stream offset 7/)
  })
})
