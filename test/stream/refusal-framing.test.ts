import { throws } from 'node:assert/strict'
import * as stream from '../../src/stream/index.js'
import { refuses } from './refuses.js'
import { wire } from './wire.js'
import {
  itRefuses,
  type Refusal,
  nothing,
  afterHeader,
  configured,
  started,
  inPart,
  ended,
  afterEof,
  inPostcopy,
  START,
  followedBy,
} from './refusals.js'

const refusals: Refusal[] = [
  { title: 'another magic', after: nothing, bad: '5145564e', code: 'MAGIC', says: /0x5145564e/ },
  {
    title: 'an obsolete file version',
    after: nothing,
    bad: '5145564d 00000002',
    code: 'VERSION',
    says: /version 2, not 3/,
  },

  {
    title: 'a command before the configuration',
    after: afterHeader,
    bad: '08',
    code: 'CONFIGURATION',
    says: /0x8 instead of the configuration/,
  },
  {
    title: 'an empty machine type',
    after: afterHeader,
    bad: '07 00000000',
    code: 'CONFIGURATION',
    says: /machine type of 0 bytes/,
  },
  {
    title: 'a machine type of 256 bytes',
    after: afterHeader,
    bad: '07 00000100',
    code: 'CONFIGURATION',
    says: /machine type of 256 bytes/,
  },
  {
    title: 'an unknown subsection, because its length is not known',
    after: afterHeader,
    bad: '07 00000001 "x" 05 03 "odd" 00000001',
    at: 6,
    code: 'CONFIGURATION',
    says: /unknown subsection "odd"/,
  },
  {
    title: 'a subsection of another version',
    after: afterHeader,
    bad: '07 00000001 "x" 05 12 "configuration/uuid" 00000002',
    at: 6,
    code: 'VERSION',
    says: /configuration\/uuid of version 2/,
  },
  {
    title: 'a second subsection of the same name',
    after: afterHeader,
    bad:
      '07 00000001 "x" 05 12 "configuration/uuid" 00000001 "0123456789abcdef"' +
      '05 12 "configuration/uuid" 00000001 "0123456789abcdef"',
    code: 'CONFIGURATION',
    says: /a second subsection .*uuid/,
  },
  {
    title: 'target pages of 8 KiB',
    after: afterHeader,
    bad: '07 00000001 "x" 05 1e "configuration/target-page-bits" 00000001 0000000d',
    at: 6,
    code: 'CONFIGURATION',
    says: /2\^13 bytes, not 2\^12/,
  },
  {
    title: 'a stream made with mapped-ram',
    after: afterHeader,
    bad: '07 00000001 "x" 05 1a "configuration/capabilities" 00000001 00000001 0a "mapped-ram"',
    at: 6,
    code: 'CAPABILITY',
    says: /turn off the capability mapped-ram/,
  },
  {
    title: 'more capabilities than exist',
    after: afterHeader,
    bad: '07 00000001 "x" 05 1a "configuration/capabilities" 00000001 00010000',
    at: 6,
    code: 'LIMIT',
    says: /65536 capabilities/,
  },

  {
    title: 'an unknown element',
    after: started,
    bad: '09',
    code: 'ELEMENT',
    says: /0x9 does not begin/,
  },
  {
    title: 'a footer alone',
    after: started,
    bad: '7e',
    code: 'ELEMENT',
    says: /0x7e does not begin/,
  },
  {
    title: 'a subsection alone',
    after: started,
    bad: '05',
    code: 'ELEMENT',
    says: /0x5 does not begin/,
  },
  { title: 'a second configuration', after: started, bad: '07', code: 'ELEMENT', says: /0x7/ },
  {
    title: 'EOF before the END',
    after: started,
    bad: '00',
    code: 'ELEMENT',
    says: /before the END/,
  },
  {
    title: 'a device before ram',
    after: configured,
    bad: '04',
    code: 'SECTION',
    says: /virtio-mem/,
  },
  {
    title: 'a device before the END',
    after: started,
    bad: '04',
    code: 'SECTION',
    says: /END of ram/,
  },
  {
    title: 'a device in postcopy',
    after: inPostcopy,
    bad: '04',
    code: 'ELEMENT',
    says: /device section in postcopy/,
  },
  { title: 'a START in postcopy', after: inPostcopy, bad: START, code: 'ELEMENT', says: /START/ },
  {
    title: 'a section after the EOF',
    after: afterEof,
    bad: '02',
    code: 'ELEMENT',
    says: /after/,
  },
  {
    title: 'an empty description',
    after: afterEof,
    bad: '06 00000000',
    code: 'DESCRIPTION',
    says: /empty/,
  },
  {
    title: 'a description that is not JSON',
    after: afterEof,
    bad: '06 00000002 "{]"',
    code: 'DESCRIPTION',
    says: /not JSON/,
  },
  {
    title: 'a description of 4 GiB',
    after: afterEof,
    bad: '06 ffffffff',
    code: 'LIMIT',
    says: /4294967295 bytes, the limit is 16777216/,
  },

  {
    title: 'an iterable device other than ram',
    after: configured,
    bad: '01 00000002 05 "block" 00000000 00000001',
    code: 'SECTION',
    says: /"block" \(instance 0\): only ram/,
  },
  {
    title: 'ram of version 5',
    after: configured,
    bad: '01 00000002 03 "ram" 00000000 00000005',
    code: 'VERSION',
    says: /ram of version 5, not 4/,
  },
  { title: 'a second START', after: started, bad: START, code: 'SECTION', says: /second START/ },
  {
    title: 'a PART before the START',
    after: configured,
    bad: '02 00000002',
    code: 'SECTION',
    says: /PART of section 2, which has not started/,
  },
  {
    title: 'an END of another id',
    after: started,
    bad: '03 00000003',
    code: 'SECTION',
    says: /END of section 3/,
  },
  {
    title: 'a PART after the END',
    after: ended,
    bad: '02 00000002',
    code: 'SECTION',
    says: /after its END/,
  },
  {
    title: 'a missing footer',
    after: followedBy(inPart, '0000000000000010'),
    bad: '02',
    code: 'FOOTER',
    says: /section ram: 0x2/,
  },
  {
    title: 'a footer of another id',
    after: followedBy(inPart, '0000000000000010'),
    bad: '7e 00000003',
    code: 'FOOTER',
    says: /ram \(2\): footer of section 3/,
  },
]

describe('StreamDecoder refuses in the framing', () => {
  itRefuses(refusals)

  it('everything after an error, with the same error', () => {
    const decoder = new stream.StreamDecoder({})
    const error = refuses(() => decoder.write(wire('00000000')), 'ERR_STREAM_MAGIC')
    throws(() => decoder.write(new Uint8Array(1)), error)
    throws(() => {
      decoder.end()
    }, error)
  })

  it('a channel that ends before it began', () => {
    refuses(() => {
      new stream.StreamDecoder({}).end()
    }, 'ERR_STREAM_TRUNCATED')
  })
})
