/** Opens a command's listening sockets, before what they serve exists. */
import { type BoundServer, QmpServer } from '../monitor/index.js'
import { type QmpOptions, qmpServerOptions } from './options.js'
import type { Scope } from './scope.js'

export function bind(scope: Scope, listening: Promise<BoundServer>): Promise<BoundServer> {
  return scope.use(listening, (bound) => bound.close())
}

/** @returns undefined without `--qmp` */
export async function bindQmp(scope: Scope, options: QmpOptions): Promise<BoundServer | undefined> {
  const { qmp } = options
  return qmp === undefined ? undefined : bind(scope, QmpServer.bind(qmp, qmpServerOptions(options)))
}
