import * as stream from '../../src/stream/index.js'
import { itRefuses, type Refusal, started, inPostcopy, zeros } from './refusals.js'

const refusals: Refusal[] = [
  { title: 'command 0', after: started, bad: '08 0000 0000', code: 'COMMAND', says: /command 0/ },
  { title: 'command 12', after: started, bad: '08 000c 0000', code: 'COMMAND', says: /command 12/ },
  {
    title: 'ENABLE_COLO',
    after: started,
    bad: '08 0008 0000',
    code: 'CAPABILITY',
    says: /capability x-colo/,
  },
  {
    title: 'LISTEN outside a package',
    after: started,
    bad: '08 0004 0000',
    code: 'PACKAGE',
    says: /LISTEN outside/,
  },
  {
    title: 'RUN outside a package',
    after: started,
    bad: '08 0005 0000',
    code: 'PACKAGE',
    says: /RUN outside/,
  },
  {
    title: 'a package of no bytes',
    after: started,
    bad: '08 0007 0004 00000000',
    code: 'PACKAGE',
    says: /empty package/,
  },
  {
    title: 'a second package',
    after: inPostcopy,
    bad: '08 0007 0004 00000001',
    code: 'PACKAGE',
    says: /second package/,
  },
  {
    title: 'a package of 4 GiB - 1',
    after: started,
    bad: '08 0007 0004 ffffffff',
    code: 'LIMIT',
    says: /4294967295 bytes, the limit is 67108864/,
  },
  {
    title: 'a page-size summary of 2^63',
    after: started,
    bad: '08 0003 0010 8000000000001000 0000000000001000',
    at: 5,
    code: 'NUMBER',
    says: /too large/,
  },
  {
    title: 'RAM_DISCARD of version 1',
    after: started,
    bad: `08 0006 0014 01 01 "m" 00 ${zeros} 0000000000001000`,
    code: 'COMMAND',
    says: /POSTCOPY_RAM_DISCARD of version 1/,
  },
  {
    title: 'RAM_DISCARD without ranges',
    after: started,
    bad: '08 0006 0004 00 01 "m" 00',
    code: 'COMMAND',
    says: /does not fit a name and ranges/,
  },
  {
    title: 'RAM_DISCARD of no bytes',
    after: started,
    bad: '08 0006 0000',
    code: 'COMMAND',
    says: /does not fit a name and ranges/,
  },
  {
    title: 'RAM_DISCARD with half a range',
    after: started,
    bad: `08 0006 000c 00 01 "m" 00 ${zeros}`,
    code: 'COMMAND',
    says: /does not fit a name and ranges/,
  },
  {
    title: 'RAM_DISCARD with a name beyond its end',
    after: started,
    bad: `08 0006 0014 00 ff "m" 00 ${zeros} 0000000000001000`,
    code: 'COMMAND',
    says: /does not fit a name and ranges/,
  },
  {
    title: 'RAM_DISCARD whose name is not terminated',
    after: started,
    bad: `08 0006 0014 00 01 "m" 01 ${zeros} 0000000000001000`,
    code: 'COMMAND',
    says: /0x1 after the name/,
  },
  {
    title: 'RAM_DISCARD of an unknown block',
    after: started,
    bad: `08 0006 0014 00 01 "x" 00 ${zeros} 0000000000001000`,
    code: 'BLOCK',
    says: /POSTCOPY_RAM_DISCARD: no RAM block "x"/,
  },
  {
    title: 'RAM_DISCARD of an empty range',
    after: started,
    bad: `08 0006 0014 00 01 "m" 00 ${zeros} ${zeros}`,
    code: 'RANGE',
    says: /block "m", 0x0 \+ 0x0 is empty/,
  },
  {
    title: 'RAM_DISCARD of an unaligned range',
    after: started,
    bad: `08 0006 0014 00 01 "m" 00 0000000000000800 0000000000001000`,
    code: 'RANGE',
    says: /not aligned to 4096/,
  },
  {
    title: 'RAM_DISCARD beyond the block',
    after: started,
    bad: `08 0006 0016 00 03 "rom" 00 0000000000001000 0000000000002000`,
    code: 'RANGE',
    says: /block "rom", 0x1000 \+ 0x2000 is outside the block's 0x2000 bytes/,
  },
  {
    title: 'RECV_BITMAP of an unknown block',
    after: started,
    bad: '08 000a 0002 01 "x"',
    code: 'BLOCK',
    says: /RECV_BITMAP: no RAM block "x"/,
  },
  {
    title: 'RECV_BITMAP longer than its name',
    after: started,
    bad: '08 000a 0003 01 "mm"',
    code: 'COMMAND',
    says: /RECV_BITMAP: 3 bytes/,
  },
  {
    title: 'RECV_BITMAP of no bytes',
    after: started,
    bad: '08 000a 0000',
    code: 'COMMAND',
    says: /RECV_BITMAP: 0 bytes/,
  },
]

/** Every command of fixed length, with one byte too many. */
for (const [command, { name, length }] of stream.COMMANDS) {
  if (length === 'variable' || command === stream.Command.enableColo) continue
  const legal = typeof length === 'number' ? length : (length[0] ?? 0)
  refusals.push({
    title: `${name} of ${legal + 1} bytes`,
    after: started,
    bad: `08 ${word(command)} ${word(legal + 1)}`,
    code: 'COMMAND',
    says: new RegExp(`${name} with ${legal + 1} bytes, not ${legal}`),
  })
}

function word(value: number): string {
  return value.toString(16).padStart(4, '0')
}

describe('StreamDecoder refuses among the commands', () => {
  itRefuses(refusals)
})
