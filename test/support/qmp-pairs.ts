/** Two ends of a migration that are driven by QMP: two QEMUs, or two guests of ours. */
import { Qemu } from '../stream/qemu.js'
import { Cli, temporaryFolder } from '../cli/support.js'
import { cleanups } from './cleanup.js'
import { QmpClient } from './qmp-client.js'

export interface QmpPair {
  readonly source: QmpClient
  readonly destination: QmpClient
}

export async function qemuPair(): Promise<QmpPair> {
  const folder = await temporaryFolder()
  const start = async (name: string, args: readonly string[]): Promise<QmpClient> => {
    const qemu = await Qemu.start(folder, name, args)
    cleanups.add(() => qemu.stop())
    return qemu.qmp
  }
  const [source, destination] = await Promise.all([
    start('source', []),
    start('destination', ['-incoming', 'defer']),
  ])
  return { source, destination }
}

export async function guestPair(): Promise<QmpPair> {
  const start = async (args: readonly string[]): Promise<QmpClient> => {
    const common = ['--ram', '16M', '--monitor', 'none', '--qmp', 'tcp::0', '--qmp-tcp-insecure']
    const cli = new Cli(['guest', ...common, ...args])
    const [, port] = await cli.seen(/QMP on tcp:127\.0\.0\.1:(\d+)/)
    const client = await QmpClient.connect({ host: '127.0.0.1', port: Number(port) })
    cleanups.add(() => client.close())
    return client
  }
  const [source, destination] = await Promise.all([
    start(['--workload', 'random:writes=30,rate=200']),
    start(['--incoming', 'defer']),
  ])
  return { source, destination }
}
