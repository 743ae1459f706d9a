/** A recovery that is paused while its worker is still about to listen. */
import assert from 'node:assert/strict'
import { runNode } from '../support/node-script.js'

const support = (path: string): string =>
  JSON.stringify(new URL(`../support/${path}`, import.meta.url).href)

describe('a recovery that is paused before its destination listens', () => {
  it('ends its worker, and a later one completes', () => {
    // The first recovery's worker listens after the request to pause, as after a slow DNS lookup.
    const preload = `
      import net from 'node:net'
      import { isMainThread, parentPort, workerData } from 'node:worker_threads'
      const held = !isMainThread && workerData?.data?.resumption !== undefined
      if (held && workerData.data.uri.host === '127.0.0.2') {
        const { listen } = net.Server.prototype
        net.Server.prototype.listen = function (...args) {
          parentPort.on('message', ({ type }) => {
            if (type === 'pause') setImmediate(() => listen.apply(this, args))
          })
          return this
        }
      }`
    const script = `
      import { ended, postcopy, reached, startPair } from ${support('migration.js')}
      import { TestMachine } from ${support('test-machine.js')}
      const machine = () => new TestMachine({ blocks: { ram: 64 * 4096 } })
      const here = machine()
      here.fill()
      const parameters = { 'max-postcopy-bandwidth': 1 }
      const source = { postcopyAtOnce: true }
      const pair = await startPair(here, machine(), { capabilities: postcopy, parameters, source })
      await reached(pair.destination, 'postcopy-active')
      pair.destination.pause()
      await Promise.all([ended(pair.source), ended(pair.destination)])
      const paused = pair.destination.recover('tcp:127.0.0.2:0')
      await reached(pair.destination, 'postcopy-recover-setup')
      pair.destination.pause()
      await paused.catch(({ code }) => console.log(code))
      pair.source.setParameters({ 'max-postcopy-bandwidth': 0 })
      await pair.source.recover(await pair.destination.recover('tcp:127.0.0.1:0'))
      await pair.destination.done
      console.log(pair.destination.state)
      process.exit(0)`
    const flags = ['--import', `data:text/javascript,${encodeURIComponent(preload)}`]
    assert.match(runNode(script, flags).stdout, /^ERR_CONNECTION_PAUSED\ncompleted$/m)
  })
})
