import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { Park, ParkedVm, exportVm } from '../../src/park/index.js'
import { findLibvirt } from '../../src/sources/internal.js'
import { libvirtImage, ramSection, streamOf } from '../sources/short-images.js'
import { save } from '../sources/support.js'
import { cleanups } from '../support/cleanup.js'
import { checkDomainXml } from '../../src/park/domain-xml.js'
import { golden } from '../stream/golden.js'
import { fileIn, leftIn, sharedVm } from './export-support.js'

const UUID = 'a3c7a881-f94a-4390-8f4a-d2bd605bbe29'
const XML = `<?xml version="1.0"?>
<!-- saved > by <virsh> -->
<domain type='qemu' xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <name>caf\u00e9</name>
  <uuid>${UUID}</uuid>
  <metadata><name>other</name><a b="x > y"/></metadata>
  <description><![CDATA[</domain>]]></description>
</domain>
`

describe('exporting a parked VM as an image of libvirt', () => {
  const shared = sharedVm(golden('precopy'))

  it('has the header that libvirt writes, the XML, padding, and the plain stream', async () => {
    const { folder, vm } = await shared.open()
    await exportVm(vm, fileIn(folder), { format: 'libvirt', domainXml: XML })
    await exportVm(vm, `${fileIn(folder)}-stream`)
    const image = readFileSync(fileIn(folder))
    const xml = Buffer.from(XML)
    assert.equal(image.subarray(0, 16).toString(), 'LibvirtQemudSave')
    const numbers = new Uint32Array(Uint8Array.from(image.subarray(16, 92)).buffer)
    const dataBytes = xml.length + 1 + 65_536
    // Version, length of the data, was running, raw, no cookie.
    assert.deepEqual([...numbers], [2, dataBytes, 1, 0, 0, ...Array<number>(14).fill(0)])
    const data = image.subarray(92, 92 + dataBytes)
    assert(data.subarray(0, xml.length).equals(xml))
    assert(data.subarray(xml.length).every((byte) => byte === 0))
    const payload = image.subarray(92 + dataBytes)
    assert(payload.equals(readFileSync(`${fileIn(folder)}-stream`)))
  })

  it('needs the domain XML', async () => {
    const { folder, vm } = await shared.open()
    const exporting = exportVm(vm, fileIn(folder), { format: 'libvirt' })
    await assert.rejects(exporting, { code: 'ERR_DOMAIN_XML', message: /virsh dumpxml.*--xml/ })
    assert.deepEqual(leftIn(folder), [])
  })

  it('has the XML and the cookie of the image that it was parked from', async () => {
    const plain = streamOf({ sections: (out) => ramSection(out, 'end', [[1, 0x11]]) })
    const file = await save(libvirtImage(() => gzipSync(plain), { format: 1, xml: XML.trim() }))
    const directory = `${file}.vm`
    const park = Park.fromFile({ file, directory })
    cleanups.add(() => park.close())
    await park.done
    const vm = ParkedVm.open(directory)
    cleanups.add(() => vm.close())
    const domainIn = async (path: string): Promise<(string | undefined)[]> => {
      const image = await findLibvirt(path)
      return [image?.xml, image?.cookie]
    }
    await exportVm(vm, `${file}.out`, { format: 'libvirt' })
    assert.deepEqual(await domainIn(`${file}.out`), [XML.trim(), '<cookie/>'])
    // Another XML comes without the cookie.
    const other = XML.replace('other', 'another')
    await exportVm(vm, `${file}.other`, { format: 'libvirt', domainXml: other })
    assert.deepEqual(await domainIn(`${file}.other`), [other, undefined])
    for (const name of ['domain.xml', 'cookie.xml']) {
      const bytes = readFileSync(join(directory, name))
      writeFileSync(join(directory, name), Buffer.from(bytes).fill(0x20, 3, 4))
      const exporting = exportVm(vm, `${file}.bad`, { format: 'libvirt' })
      await assert.rejects(exporting, { code: 'ERR_PARKED_DAMAGED' })
      writeFileSync(join(directory, name), bytes)
    }
  })

  const refused: readonly (readonly [string, string | Uint8Array, RegExp])[] = [
    ['nothing', '', /ends before <\/domain>/],
    ['another document', '<network><name>n</name></network>', /begins with <network>/],
    ['one without a type', XML.replace("type='qemu'", "mytype='qemu'"), /has no type/],
    ['one with an empty type', XML.replace('qemu', ''), /has no type/],
    ['one without a name', XML.replace(/<name>caf.*/, ''), /has no <name>/],
    ['one with an empty name', XML.replace('caf\u00e9', ' '), /has no <name>/],
    ['one without a uuid', XML.replace(/<uuid>.*/, ''), /has no <uuid>/],
    ['one with another uuid', XML.replace(UUID, `${UUID}0`), /is not a UUID/],
    ['one that is cut', XML.slice(0, -4), /is not XML at "<\/dom/],
    ['one that is cut between elements', XML.slice(0, -11), /ends before <\/domain>/],
    ['crossed elements', '<domain type="a"><name></domain>', /<\/domain> does not end <name>/],
    ['two documents', XML + XML.slice(XML.indexOf('<domain')), /further content after <\/domain>/],
    ['text before it', `x${XML}`, /text outside/],
    ['a document type', `<!DOCTYPE domain>${XML}`, /is not XML at "<!DOCTYPE/],
    ['an unquoted angle bracket', XML.replace('other', 'a < b'), /is not XML at "< b/],
    ['a NUL', XML.replace('other', '\0'), /has a NUL/],
    ['other bytes than UTF-8', Buffer.from(XML, 'latin1'), /not UTF-8/],
    ['more than 1 MiB', XML.replace('other', 'x'.repeat(2 ** 20)), /the limit is 1.00 MiB/],
  ]
  for (const [title, xml, message] of refused) {
    it(`refuses as domain XML: ${title}`, () => {
      assert.throws(() => checkDomainXml(xml), { code: 'ERR_DOMAIN_XML', message })
    })
  }

  it('refuses a changed XML with a clear error, or takes it', () => {
    const change = fc.tuple(fc.nat(XML.length), fc.nat(12), fc.string({ maxLength: 6 }))
    fc.assert(
      fc.property(change, ([at, removed, added]) => {
        const xml = XML.slice(0, at) + added + XML.slice(at + removed)
        try {
          assert.equal(Buffer.from(checkDomainXml(xml)).toString(), xml)
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'ERR_DOMAIN_XML', String(error))
        }
      }),
    )
  })

  it('takes a short time to refuse an XML of 1 MiB, whatever it repeats', () => {
    for (const part of ['<', '<a', '<a "', "<a '", '<!--', '<![CDATA[', '<?', '</a', '&', '<a>']) {
      const xml = part.repeat(Math.floor(2 ** 20 / part.length))
      const startedAt = performance.now()
      assert.throws(() => checkDomainXml(xml), { code: 'ERR_DOMAIN_XML' }, part)
      const took = performance.now() - startedAt
      assert(took < 2000, `${part}: ${took} ms`)
    }
  })
})
