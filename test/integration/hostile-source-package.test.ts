/** The packages that our destination refuses, so that the guest never runs there. */
import * as stream from '../../src/stream/index.js'
import {
  type Case,
  assertRefused,
  assertTold,
  begin,
  blocks,
  upToPackage,
} from '../support/destination-under-test.js'
import { deviceSections, discardAll, packageOf, part, prologue } from '../support/fake-peer.js'

const badPackages: [string, (one: Case) => Uint8Array, string][] = [
  [
    'that does not begin with LISTEN',
    (one) =>
      stream.encode((out) => {
        out.bytes(deviceSections(one.sent))
        stream.encodeListen(out)
        stream.encodeRun(out)
      }),
    'ERR_STREAM_PACKAGE',
  ],
  [
    'with a second LISTEN',
    (one) =>
      stream.encode((out) => {
        stream.encodeListen(out)
        out.bytes(deviceSections(one.sent))
        stream.encodeListen(out)
        stream.encodeRun(out)
      }),
    'ERR_STREAM_PACKAGE',
  ],
  [
    'without RUN',
    (one) =>
      stream.encode((out) => {
        stream.encodeListen(out)
        out.bytes(deviceSections(one.sent))
      }),
    'ERR_STREAM_PACKAGE',
  ],
  [
    'with data after RUN',
    (one) =>
      stream.encode((out) => {
        stream.encodeListen(out)
        out.bytes(deviceSections(one.sent))
        stream.encodeRun(out)
        stream.encodePing(out, 3)
      }),
    'ERR_STREAM_PACKAGE',
  ],
  [
    'within a package',
    (one) =>
      stream.encode((out) => {
        stream.encodeListen(out)
        stream.encodePackaged(out, stream.encodePackage(deviceSections(one.sent)))
        stream.encodeRun(out)
      }),
    'ERR_STREAM_PACKAGE',
  ],
  [
    'with pages in it',
    () =>
      stream.encode((out) => {
        stream.encodeListen(out)
        out.bytes(part((records) => stream.encodeRamZero(records, 'ram', 0)))
        stream.encodeRun(out)
      }),
    'ERR_STREAM_PACKAGE',
  ],
]

describe('a destination refuses a package', () => {
  for (const [what, build, code] of badPackages) {
    it(what, async () => {
      const one = await begin()
      one.source.send(prologue(one.sent))
      one.source.send(discardAll(one.sent))
      one.source.send(stream.encode((out) => stream.encodePackaged(out, build(one))))
      await assertRefused(one, code)
      await assertTold(one)
    })
  }

  it('over its limit, before it is read', async () => {
    const one = await begin({ parameters: { 'x-max-package-bytes': 4096 } })
    one.source.send(prologue(one.sent))
    one.source.send(discardAll(one.sent))
    one.source.send((out) => stream.encodePackagedHeader(out, 4097))
    await assertRefused(one, 'ERR_STREAM_LIMIT', /4097/)
  })

  it('without an advise before it', async () => {
    const one = await begin({ capabilities: {} })
    one.source.send(prologue(one.sent, { postcopy: false, returnPath: true }))
    one.source.send(packageOf(one.sent))
    await assertRefused(one, 'ERR_STATE_COMMAND', /PACKAGED is not valid in this phase/)
  })

  it('if a page was neither sent nor discarded', async () => {
    const one = await begin()
    one.source.send(prologue(one.sent))
    one.source.send((out) => stream.encodeRamDiscard(out, 'vram', [0, 2 ** 16]))
    one.source.send(packageOf(one.sent))
    await assertRefused(one, 'ERR_PEER_DISCARD', /"ram": the page at 0 was neither/)
    await assertTold(one)
  })

  it('with an unknown device', async () => {
    const one = await begin({
      machine: {
        blocks,
        onLoad: (idstr) => {
          throw new Error(`no device ${idstr}`)
        },
      },
    })
    upToPackage(one)
    await assertRefused(one, 'ERR_MACHINE_HOOK', /no device state/)
    await assertTold(one)
  })
})
