import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { cleanups } from '../support/cleanup.js'
import { requires } from '../support/requires.js'

const cli = fileURLToPath(new URL('../../bundle/cli/main.js', import.meta.url))

describe('the system calls of a migration', () => {
  it('include the userfaultfd ioctls register, copy and unregister', async function () {
    requires(this, 'strace')
    const folder = await mkdtemp(join(tmpdir(), 'postcopy-'))
    cleanups.add(() => rm(folder, { recursive: true }))
    const trace = join(folder, 'trace')
    const demo = [cli, 'demo', '--ram', '16M', '--vcpus', '1', '--workload', 'random:writes=50']
    await promisify(execFile)('strace', [
      ...['-f', '-e', 'trace=ioctl', '-o', trace],
      ...[process.execPath, ...demo, '--postcopy-after', 'now', '--json'],
    ])
    const seen = await readFile(trace, 'utf8')
    for (const name of ['UFFDIO_API', 'UFFDIO_REGISTER', 'UFFDIO_COPY', 'UFFDIO_UNREGISTER']) {
      assert(seen.includes(name), `no ${name} in the trace`)
    }
  })
})
