/** The parts of the stream of our source, as a scripted destination receives them. */
import assert from 'node:assert/strict'
import type { SourceOptions } from '../../src/source/index.js'
import * as stream from '../../src/stream/index.js'
import { postcopy } from '../support/migration.js'
import { begin, finish, packageIndex } from '../support/source-under-test.js'

async function recordPrecopy(capabilities: SourceOptions['capabilities']): Promise<Buffer> {
  const machine = { blocks: { ram: 2 ** 21, vram: 2 ** 19 } }
  const one = await begin(machine, { ...(capabilities === undefined ? {} : { capabilities }) })
  if (capabilities === undefined) throw new Error('no capabilities')
  await one.peer.heard('vmDescription')
  if (Object.keys(capabilities).length > 0) one.peer.shut(0)
  await one.source.done
  assert.equal(one.peer.refused, undefined)
  return Buffer.concat(one.peer.bytes)
}

describe('the stream of a source', () => {
  it('with postcopy on equals plain precopy, except for return path, ping and advise', async () => {
    const plain = await recordPrecopy({})
    const able = await recordPrecopy(postcopy)
    const extra = stream.encode((out) => {
      stream.encodeOpenReturnPath(out)
      stream.encodePing(out, 1)
      stream.encodeAdvise(out, 4096, 4096)
    })
    const configured = stream.encode((out) => {
      stream.encodeFileHeader(out)
      stream.encodeConfiguration(out, 'test')
    })
    const at = configured.length
    assert(plain.subarray(0, at).equals(configured))
    assert(able.subarray(0, at).equals(configured))
    assert(able.subarray(at, at + extra.length).equals(extra))
    assert(able.subarray(at + extra.length).equals(plain.subarray(at)), 'the rest is the same')
    assert(plain.length > 2 ** 20, 'and not empty')
  })

  it('ends a precopy with END, devices, EOF and a description of their lengths', async () => {
    const { source, peer } = await begin({ blocks: { ram: 2 ** 18 } }, { capabilities: {} })
    await source.done
    await peer.heard('vmDescription')
    const names = peer.events.map(([name]) => name).filter((name) => !name.startsWith('ramPage'))
    assert.deepEqual(names.slice(-6), [
      'sectionEnd',
      'ramEndOfSection',
      'footer',
      'deviceTail',
      'endOfStream',
      'vmDescription',
    ])
    const [json] = peer.all('vmDescription')[0]?.slice(1) ?? []
    const described = JSON.parse(String(json)) as { devices: { name: string }[] }
    assert.deepEqual(
      described.devices.map(({ name }) => name),
      ['nic', 'state'],
    )
  })

  it('sends ping 2, package and ping 4 at the switch, and LISTEN, pings and RUN inside', async () => {
    const one = await begin({ blocks: { ram: 2 ** 20 } })
    one.source.startPostcopy()
    await finish(one)
    const { peer } = one
    const around = peer.events.slice(packageIndex(peer) - 1, packageIndex(peer) + 2)
    assert.deepEqual(around[0], ['ping', 2])
    assert.deepEqual(around[2], ['ping', 4])
    const blob = peer.package ?? new Uint8Array()
    const { pings } = stream.findPackagePings(blob)
    assert.deepEqual(pings, [3, 0x42])
    const seen: string[] = []
    stream.decodePackage(blob, {
      listen: () => seen.push('LISTEN'),
      device: ({ idstr }, body) => {
        seen.push(idstr)
        body.bytes(body.u32())
      },
      ping: (value) => seen.push(`PING ${value}`),
      run: () => seen.push('RUN'),
    })
    assert.deepEqual(seen, ['LISTEN', 'nic', 'state', 'PING 3', 'PING 66', 'RUN'])
  })

  it('ends postcopy with an empty END and EOF, and sends nothing more', async () => {
    const one = await begin({ blocks: { ram: 2 ** 20 } })
    one.source.startPostcopy()
    await finish(one)
    await one.peer.hangsUp()
    const names = one.peer.events.map(([name]) => name)
    assert.deepEqual(names.slice(-4), ['sectionEnd', 'ramEndOfSection', 'footer', 'endOfStream'])
  })

  it('names the block of the first page after the package', async () => {
    const one = await begin({ blocks: { ram: 2 ** 20 } })
    one.source.startPostcopy()
    await finish(one)
    const bytes = Buffer.concat(one.peer.bytes)
    const [, offset] = one.peer.all('packaged')[0]?.slice(1) ?? []
    const part = Number(offset) + (one.peer.package?.length ?? 0) + 9
    assert.equal(bytes[part], stream.ElementType.sectionPart)
    const head = Number(bytes.readBigUInt64BE(part + 5))
    assert.equal(head & stream.RamFlag.continue, 0)
    assert.equal(bytes.toString('latin1', part + 14, part + 17), 'ram')
  })
})
