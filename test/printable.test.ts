import assert from 'node:assert/strict'
import { PeerError, PostcopyError, errorFromRecord, errorToRecord } from '../src/errors.js'
import { printable, printableJson, printableMessage, printableText } from '../src/printable.js'

const ESC = '\x1b'
const hostile = `pc\x1b]0;owned\x07\n\r\x9b2J\u202eram\u2028\u2029\u200b\ud800`
const tame = '\\x1b]0;owned\\x07\\x0a\\x0d\\x9b2J\\u{202e}ram\\u{2028}\\u{2029}\\u{200b}\\u{d800}'

describe('untrusted text', () => {
  it('loses its control characters, line ends and changes of direction', () => {
    assert.equal(printable(hostile), `pc${tame}`)
  })

  it('keeps ordinary text', () => {
    for (const text of ['pc.ram', 'Größe 1 MiB – ok', '日本語', '✔ 😀', 'a\\b "c"']) {
      assert.equal(printable(text), text)
    }
  })

  it('is truncated at a limit, with the number of missing characters', () => {
    assert.equal(printable('x'.repeat(300), 4), 'xxxx… (296 characters more)')
    assert(printable('x'.repeat(1_000_000)).length < 300)
    assert(printableMessage('x'.repeat(1_000_000)).length < 17_000)
  })

  it('keeps the line ends of a layout', () => {
    assert.equal(printableText(`a\n${ESC}b`), 'a\n\\x1bb')
  })

  it('cannot forge a message in a second line', () => {
    const text = 'no such block\npostcopy: all is well\n  kept'
    assert.equal(printableMessage(text), 'no such block\n  postcopy: all is well\n  kept')
    assert.equal(printableMessage(printableMessage(text)), printableMessage(text))
  })

  it('is the same value in JSON, without 8-bit control and direction characters', () => {
    const json = printableJson({ [hostile]: ['\u{e0001}', hostile] })
    assert.doesNotMatch(json, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u)
    assert.deepEqual(JSON.parse(json), { [hostile]: ['\u{e0001}', hostile] })
  })

  it('is made printable in every error', () => {
    for (const error of [
      new PeerError('ERR_PEER_BLOCK', `no RAM block "${hostile}"`),
      new PostcopyError('ERR_INVALID_BLOCK', `no RAM block "${hostile}"`),
    ]) {
      assert.doesNotMatch(error.message, /(?!\n)\p{Cc}|\p{Cf}/u)
      assert.equal(errorFromRecord(errorToRecord(error)).message, error.message)
    }
    const foreign = errorToRecord(new Error(hostile))
    assert.doesNotMatch(errorFromRecord(foreign).message, /(?!\n)\p{Cc}|\p{Cf}/u)
  })
})
