import assert from 'node:assert/strict'
import { runNode } from '../support/node-script.js'

const index = new URL('../../src/index.js', import.meta.url).href
const kernel = new URL('../../src/kernel/index.js', import.meta.url).href

describe('a source that is closed while writes are tracked', () => {
  it('allows its main thread to write to RAM while the worker ends', () => {
    const { stdout } = runNode(`
      import { setImmediate } from 'node:timers/promises'
      import { Destination, Guest, Source } from ${JSON.stringify(index)}
      const ram = '16M'
      const incoming = await Guest.create({ ram, incoming: true })
      const destination = await Destination.listen(incoming, { uri: 'tcp:127.0.0.1:0' })
      destination.done.catch(() => undefined)
      const guest = await Guest.create({ ram })
      const { region } = guest.blocks[0]
      let written = 0
      const stopped = new Promise((resolve) => {
        guest.stop = async () => {
          resolve(source.close())
          await setImmediate() // from here on the worker is being terminated
          for (; written < region.lengthBytes; written += 4096) {
            region.write(written, Uint8Array.of(1))
          }
        }
      })
      const source = Source.migrate(guest, { uri: destination.uri, dirtyLog: 'sync' })
      source.done.catch(() => undefined)
      await stopped
      await destination.close()
      await Promise.all([guest.close(), incoming.close()])
      console.log(written)
    `)
    assert.equal(stdout, `${16 * 2 ** 20}\n`)
  })

  it('does not leave a writer parked by write protection when a worker ends', () => {
    const { stdout } = runNode(`
      import { once } from 'node:events'
      import { Worker } from 'node:worker_threads'
      import { MemoryRegion } from ${JSON.stringify(kernel)}
      const region = MemoryRegion.create({ kind: 'anon', lengthBytes: 4096 })
      region.write(0, Uint8Array.of(1))
      const code = \`
        const { parentPort, workerData } = require('node:worker_threads')
        import(${JSON.stringify(kernel)}).then(({ MemoryRegion, Userfaultfd }) => {
          const region = MemoryRegion.attach(workerData)
          const uffd = Userfaultfd.open({ features: ['PAGEFAULT_FLAG_WP'] })
          uffd.register(region.address, 4096, { writeProtect: true })
          uffd.writeProtect(region.address, 4096, { enable: true })
          uffd.watch(() => undefined)
          parentPort.postMessage('protected')
        })\`
      const worker = new Worker(code, { eval: true, workerData: region.id })
      await once(worker, 'message')
      await worker.terminate()
      region.write(0, Uint8Array.of(2))
      region.close()
      console.log('written')
    `)
    assert.equal(stdout, 'written\n')
  })
})
