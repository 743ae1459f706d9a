/** Untrusted text about a QEMU: the record of its command line, and the command line itself. */
import { PostcopyError } from '../../../src/errors.js'
import { findDisks } from '../../../src/qemu/clone-disks.js'
import { separateSockets } from '../../../src/qemu/command.js'
import { parseRamBlocks } from '../../../src/qemu/compare.js'
import { OptionText } from '../../../src/qemu/option-text.js'
import { decodeOrigin } from '../../../src/qemu/origin-file.js'
import { bounded } from '../bounded.js'
import { type Target, demand } from '../target.js'

const originText = JSON.stringify({
  ...{ format: 'postcopy-qemu-origin', formatVersion: 1 },
  ...{ wasRunning: true, vcpus: 1, maxVcpus: 2 },
  disks: [
    {
      ...{ name: 'hd0', file: 'a', format: 'raw', isReadOnly: false, virtualSizeBytes: 512 },
      state: { path: '/a', lengthBytes: 512, modifiedNs: '-1', headerSha256: 'f' },
      backing: ['/b'],
    },
  ],
  launch: { binary: '/bin/q', version: '7.2.0', args: ['-m', '1'], directory: '/' },
})

/** `qemu.json` of a parked VM. */
export const qemuOrigin: Target = {
  seeds: [Buffer.from(originText)],
  tokens: ['null', '{}', '[]', '""', '1e300', '-1', '"\\u0000"', '"__proto__"', '2', 'true'].map(
    (text) => Buffer.from(text),
  ),
  maxBytes: 1000,
  run: (input) =>
    bounded(input.length, () => {
      try {
        const { launch, disks } = decodeOrigin(Buffer.from(input).toString(), 'qemu.json')
        const words = [launch?.binary, launch?.directory, ...(launch?.args ?? [])]
        const paths = disks.flatMap(({ state, backing }) => [state?.path, ...backing])
        for (const word of [...words, ...paths]) {
          demand(word?.includes('\0') !== true, 'a word that no program can be started with')
        }
        return `${Math.min(disks.length, 3)} ${launch === undefined}`
      } catch (error) {
        if (!(error instanceof PostcopyError)) throw error
        return `${error.code} ${/: (\w+) must/.exec(error.message)?.[1] ?? ''}`
      }
    }),
}

/** Arguments of QEMU, one in each line, and then the text of `info ramblock`. */
export const qemuArguments: Target = {
  seeds: [
    '-drive\nfile=a,,b,format=raw,if=virtio\n-hda\nc\n-snapshot',
    '-blockdev\nfile,filename=a,node-name=f\n-blockdev\n{"driver":"raw","file":"f"}',
    '-blockdev\n{"driver":"qcow2","file":{"driver":"file","filename":"a"}}\n-vnc\n:1',
    '-chardev\nsocket,id=c,path=/c,server=on\n-qmp\nunix:/q,server=on,wait=off',
    '  pc.ram    4 KiB  0x0000000000000000 0x0000000004000000 0x0000000004000000\n',
  ].map((text) => Buffer.from(text)),
  tokens: [
    '-drive\n',
    '-blockdev\n',
    ',',
    ',,',
    '=',
    '{',
    '}',
    'file.',
    '"file":',
    'unix:',
    'backing',
  ].map((text) => Buffer.from(text)),
  maxBytes: 500,
  run: (input) =>
    bounded(input.length, () => {
      const text = Buffer.from(input).toString()
      const args = text.split('\n')
      const { disks, others } = findDisks(args, '/')
      for (const disk of disks) {
        demand(disk.path.startsWith('/'), `a relative path: ${disk.path}`)
        const own = [...args]
        disk.replace(own, '/overlay')
        demand(own.length === args.length, 'the number of arguments has changed')
        demand(
          own.some((word) => word.includes('/overlay')),
          'the overlay is not used',
        )
        // What has an overlay is not found again as the disk that it was.
        const again = findDisks(own, '/').disks.filter(({ path }) => path === '/overlay')
        demand(again.length > 0 || others.length > 0, 'the overlay is not found as a disk')
      }
      const moved = separateSockets([...args], {
        ...{ folder: '/f', directory: '/', isOneOfMany: true },
      })
      for (const word of args) {
        const once = OptionText.parse(word).toString()
        demand(
          OptionText.parse(once).toString() === once,
          'options change when they are read again',
        )
      }
      const blocks = parseRamBlocks(text)
      return [disks, others, moved, blocks].map(({ length }) => Math.min(length, 3)).join(' ')
    }),
}
