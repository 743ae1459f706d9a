/** The last line of `postcopy guest`: where the guest is, and where its pages are. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type EndingGuest, lastWords } from '../../src/cli/last-words.js'
import { guestsInPostcopy, ram, until } from '../support/guest-processes.js'
import { Cli, ask, temporaryFolder } from './support.js'

/** A postcopy of this bandwidth makes no progress during a test. */
const SLOW = '100K'

describe('the last line of a guest process', () => {
  it('reports lost pages if the destination still needs them', async () => {
    const { there, here, source } = await guestsInPostcopy(SLOW)
    source.child.kill('SIGINT')
    await source.seen(/this process ends when they have been received/)
    source.child.kill('SIGTERM')
    const { status, stderr } = await source.ended
    assert.equal(status, 128 + 15)
    assert.doesNotMatch(stderr, /the guest ends/)
    assert.match(stderr, /the guest is at the destination; the pages .* are lost with this process/)
    assert.doesNotMatch(stderr, /--recover/)
    assert.equal(existsSync(here), false)
    await until(there, 'info migrate', /status: postcopy-paused/)
    assert.match(await ask(there, 'quit -f'), /^$/)
  })

  it('names the spilled pages and the command that continues from them', async () => {
    const spill = join(await temporaryFolder(), 'sp')
    const { there, here, source } = await guestsInPostcopy(SLOW, ['--spill', spill])
    await source.seen(/the pages that the postcopy owes are on disk/)
    await ask(here, 'migrate_pause')
    await until(here, 'info migrate', /status: postcopy-paused/)
    source.child.kill('SIGTERM')
    await source.seen(/this process ends when they have been received/)
    source.child.kill('SIGTERM')
    const { stderr } = await source.ended
    const last = stderr.trimEnd().split('\n').at(-1) ?? ''
    assert.match(last, /the guest is at the destination; the pages .* are in .*sp\.incomplete: /)
    assert.match(last, /migrate_recover URI .* postcopy resume --recover .*sp\.incomplete URI/)
    assert.doesNotMatch(stderr, /the guest ends|lost with this process/)
    await until(there, 'info migrate', /status: postcopy-paused/)
  })

  it('reports that no guest has arrived', async () => {
    const cli = new Cli(['guest', ...ram, '--incoming', 'tcp:127.0.0.1:0'])
    await cli.seen(/waiting for a guest on/)
    await cli.seen(/\(postcopy\)/)
    cli.child.kill('SIGTERM')
    assert.match((await cli.ended).stderr, /no guest has arrived/)
    assert.doesNotMatch(cli.stderr, /the guest ends/)
  })

  const arrived = { state: 'completed', guestLocation: 'here' } as const
  const texts: readonly (readonly [string, RegExp, Partial<EndingGuest>])[] = [
    ['has never migrated', /^the guest ends$/, {}],
    ['has arrived', /^the guest ends$/, { incoming: true, destination: arrived }],
    [
      'is still arriving',
      /^the guest ends before all of its memory has been received$/,
      { incoming: true, destination: { state: 'postcopy-paused', guestLocation: 'here' } },
    ],
    [
      'failed to arrive',
      /^no guest has arrived$/,
      { incoming: true, destination: { state: 'failed', guestLocation: 'elsewhere' } },
    ],
    [
      'stays after a migration that failed',
      /^the guest ends$/,
      { source: { state: 'failed', guestLocation: 'here' } },
    ],
    [
      'is stopped by a migration before the switch',
      /^the guest ends$/,
      { source: { state: 'device', guestLocation: 'here' } },
    ],
    [
      'was migrated away',
      /^the guest is at the destination, with all of its memory$/,
      { source: { state: 'completed', guestLocation: 'elsewhere' } },
    ],
    [
      'was migrated away again after it had arrived',
      /^the guest is at the destination, with all of its memory$/,
      {
        incoming: true,
        destination: arrived,
        source: { state: 'completed', guestLocation: 'elsewhere' },
      },
    ],
    [
      'was sent by precopy and not answered',
      /^whether the destination has the guest is not known: check there \(info status\)$/,
      { source: { state: 'completed', guestLocation: 'unknown' } },
    ],
    [
      'was sent by postcopy and not answered',
      /^whether the destination has the guest is not known: .*; if so, the pages .* are lost with/,
      { source: { state: 'postcopy-device', guestLocation: 'unknown' } },
    ],
    [
      'was sent and not answered, and was spilled',
      /^whether the destination .* not known: .*; if so, the pages .* are in d\.incomplete: GO ON$/,
      {
        source: { state: 'postcopy-paused', guestLocation: 'unknown' },
        spilled: { path: 'd.incomplete', goOn: 'GO ON' },
      },
    ],
  ]
  for (const [title, expected, given] of texts) {
    it(`is true if the guest ${title}`, () => {
      const none = { incoming: false, source: undefined, destination: undefined }
      assert.match(lastWords({ ...none, spilled: undefined, ...given }), expected)
    })
  }
})
