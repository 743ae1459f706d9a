import assert from 'node:assert/strict'
import { readFileSync, readlinkSync } from 'node:fs'
import { KernelError, Userfaultfd, featureNames } from '../../src/kernel/index.js'
import { featuresFromMask, featuresToMask, ioctlsFromMask } from '../../src/kernel/features.js'
import { makeRegion } from '../support/memory-kinds.js'
import { runNode } from '../support/node-script.js'
import { openUffd } from '../support/park.js'
import { requires } from '../support/requires.js'

const kernel = new URL('../../src/kernel/index.js', import.meta.url).href

/** The "enabled features" in fdinfo, because no API returns them. */
function enabledMask(fd: number): bigint {
  const text = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')
  return BigInt(`0x${/^API:\s+aa:([0-9a-f]+):/m.exec(text)?.[1] ?? '0'}`) & 0x7fffffffn
}

describe('Userfaultfd.open', () => {
  it('opens non-blocking and close-on-exec', () => {
    const uffd = openUffd()
    assert.equal(readlinkSync(`/proc/self/fd/${uffd.fd}`), 'anon_inode:[userfaultfd]')
    const flags = /^flags:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${uffd.fd}`, 'utf8'))
    assert.equal(parseInt(flags?.[1] ?? '', 8) & 0o2004000, 0o2004000)
  })

  it('enables the required features, and the available optional ones', () => {
    const uffd = openUffd({ features: ['THREAD_ID'], optional: ['EXACT_ADDRESS', 'MOVE'] })
    const wanted = (['THREAD_ID', 'EXACT_ADDRESS', 'MOVE'] as const).filter((name) =>
      uffd.available.has(name),
    )
    assert.deepEqual(uffd.features, new Set(wanted))
    assert.equal(enabledMask(uffd.fd), featuresToMask(wanted))
  })

  it('enables nothing by default', () => {
    const uffd = openUffd()
    assert.equal(uffd.features.size, 0)
    assert.equal(enabledMask(uffd.fd), 0n)
    assert(uffd.available.has('MISSING_SHMEM'))
  })

  it('reports the methods that failed, and what would allow them', function () {
    requires(this, 'root', 'setpriv')
    const { stdout } = runNode(
      `import { Userfaultfd } from ${JSON.stringify(kernel)}
       const attempt = (options) => {
         try {
           const { method, userModeOnly } = Userfaultfd.open(options)
           console.log(method, userModeOnly)
         } catch (error) { console.log(error.code, error.syscall, error.hint) }
       }
       attempt({ method: 'syscall' })
       attempt({ method: 'syscall', userModeOnly: false })
       attempt({ userModeOnly: true })
       attempt({ features: ['EVENT_FORK'] })`,
      [],
      { prefix: ['setpriv', '--bounding-set=-sys_ptrace', '--inh-caps=-sys_ptrace'] },
    )
    const lines = stdout.trim().split('\n')
    assert.equal(lines.length, 4)
    assert.match(lines[1] ?? '', /^syscall|^EPERM userfaultfd .*unprivileged_userfaultfd/)
    assert.match(lines[3] ?? '', /^EPERM ioctl .*CAP_SYS_PTRACE/)
    const open = readFileSync('/proc/sys/vm/unprivileged_userfaultfd', 'utf8').trim() === '1'
    if (!open) assert.deepEqual([lines[0], lines[1]?.slice(0, 5)], ['syscall true', 'EPERM'])
    assert.match(lines[2] ?? '', / true$/)
  })

  it('rejects unknown features, options and methods', () => {
    // @ts-expect-error a name that does not exist
    assert.throws(() => Userfaultfd.open({ features: ['WP_SYNC'] }), TypeError)
    // @ts-expect-error a misspelt option
    assert.throws(() => Userfaultfd.open({ feature: [] }), TypeError)
    // @ts-expect-error a method that does not exist
    assert.throws(() => Userfaultfd.open({ method: 'window' }), RangeError)
  })

  it('gives every handle of a process the same descriptor, open until the last is closed', () => {
    const uffd = openUffd({ features: ['THREAD_ID'] })
    const other = Userfaultfd.attach(uffd.id)
    assert.deepEqual(
      [other.fd, other.features, other.method],
      [uffd.fd, uffd.features, uffd.method],
    )
    uffd.close()
    uffd.close()
    assert.equal(other.read(), 0)
    other.close()
    assert.throws(() => Userfaultfd.attach(uffd.id), { code: 'ENOENT' })
  })

  it('throws ERR_CLOSED from every call after close', () => {
    const uffd = openUffd()
    uffd.close()
    const uses: (() => unknown)[] = [
      () => uffd.register(0, 4096, { missing: true }),
      () => {
        uffd.unregister(0, 4096)
      },
      () => uffd.copy(0, new Uint8Array(4096)),
      () => uffd.zeropage(0, 4096),
      () => uffd.continue(0, 4096),
      () => uffd.move(0, 0, 4096),
      () => uffd.poison(0, 4096),
      () => {
        uffd.wake(0, 4096)
      },
      () => {
        uffd.writeProtect(0, 4096, { enable: true })
      },
      () => uffd.read(),
      () => uffd.watch(() => undefined),
    ]
    for (const use of uses) assert.throws(use, { code: 'ERR_CLOSED' })
  })

  it('leaves a registered one open when its handle is garbage collected, so that it can be attached', () => {
    const { stdout, stderr } = runNode(
      `import { MemoryRegion, Userfaultfd } from ${JSON.stringify(kernel)}
       const region = MemoryRegion.create({ kind: 'anon', lengthBytes: 4096 })
       const ids = (() => {
         const used = Userfaultfd.open()
         used.register(region.address, 4096, { missing: true })
         return [used.id, Userfaultfd.open().id]
       })()
       for (let i = 0; i < 20; i += 1) {
         gc()
         await new Promise(setImmediate)
       }
       for (const id of ids) {
         try {
           const uffd = Userfaultfd.attach(id)
           console.log(uffd.copy(region.address, new Uint8Array(4096)))
           uffd.close()
         } catch (error) { console.log(error.code) }
       }
       try { Userfaultfd.attach(ids[0]) } catch (error) { console.log(error.code) }`,
      ['--expose-gc'],
    )
    assert.deepEqual(stdout.trim().split('\n'), ['4096', 'ENOENT', 'ENOENT'])
    assert.match(stderr, /userfaultfd 1 was garbage collected without close/)
  })
})

describe('feature masks', () => {
  it('have the bits of linux/userfaultfd.h', () => {
    assert.equal(featureNames.length, 17)
    assert.equal(featuresToMask(featureNames), 0x1ffffn)
    assert.equal(featuresToMask(['EVENT_FORK', 'THREAD_ID', 'MOVE']), 0x10102n)
    assert.deepEqual(featuresFromMask(0x8001n), new Set(['PAGEFAULT_FLAG_WP', 'WP_ASYNC']))
    assert.deepEqual(featuresFromMask(1n << 40n), new Set())
    assert.deepEqual(
      ioctlsFromMask(0x8000000000000003n),
      new Set(['REGISTER', 'UNREGISTER', 'API']),
    )
  })
})

describe('Userfaultfd.register', () => {
  it('reports the errors of the kernel, with the arguments in the message', () => {
    const uffd = openUffd()
    const region = makeRegion('anon', 2)
    assert.throws(
      () => uffd.register(region.address, 4096, {}),
      (error) => error instanceof KernelError && /UFFDIO_REGISTER.*no mode/.test(error.message),
    )
    assert.throws(() => uffd.register(region.address + 1, 4096, { missing: true }), {
      code: 'EINVAL',
      syscall: 'ioctl',
    })
    assert.throws(() => uffd.register(region.address, -1, { missing: true }), RangeError)
    uffd.register(region.address, 4096, { missing: true })
    const other = openUffd()
    assert.throws(() => other.register(region.address, 4096, { missing: true }), { code: 'EBUSY' })
    uffd.unregister(region.address, 4096)
    other.register(region.address, 4096, { missing: true })
  })
})
