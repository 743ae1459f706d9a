/**
 * Stands between our two ends, takes the stream apart and puts it together again, with one thing
 * changed. On a thread of its own: a destination that loads devices parks the main thread.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { cleanups } from './cleanup.js'
import { portOf } from './fake-peer.js'

export type CutPoint =
  | 'before package'
  | 'in package'
  | 'after package'
  /** So many pages behind the package. */
  | number

export type Tampering =
  | { readonly type: 'none' }
  /** The first discard command does not arrive. */
  | { readonly type: 'drop discard' }
  /** A page of vCPUs does not arrive. */
  | { readonly type: 'drop page' }
  /** Two pages arrive with each other's content. */
  | { readonly type: 'swap pages' }
  /** A page that came in precopy and again in postcopy comes with its old content. */
  | { readonly type: 'replay page' }
  /** One bit of a page is another, before or after the package. */
  | { readonly type: 'flip bit'; readonly phase: 'precopy' | 'postcopy' }
  /** One bit of the state of a device is another. */
  | { readonly type: 'flip device bit'; readonly idstr: string }
  /** The connection is reset. */
  | { readonly type: 'cut'; readonly at: CutPoint }
  /** The destination's last word does not arrive. */
  | { readonly type: 'swallow SHUT' }

/** What was done, as soon as it was. */
export interface Tampered {
  /** Of the pages that were changed, in `ram`. */
  readonly offsets: readonly number[]
}

export interface TamperingProxy {
  readonly uri: string
  /** Resolves when the change was made. */
  readonly tampered: Promise<Tampered>
}

/** Plain data for the proxy's thread. */
export interface ProxyData {
  readonly targetPort: number
  readonly tampering: Tampering
}

/** Listens, and takes one connection to the destination at `uri`. */
export async function startProxy(uri: string, tampering: Tampering): Promise<TamperingProxy> {
  const workerData: ProxyData = { targetPort: portOf(uri), tampering }
  const worker = new Worker(new URL('./tampering-worker.js', import.meta.url), { workerData })
  cleanups.add(() => worker.terminate())
  const [port] = (await once(worker, 'message')) as [number]
  const tampered = once(worker, 'message').then(([message]) => message as Tampered)
  tampered.catch(() => undefined)
  return { uri: `tcp:127.0.0.1:${port}`, tampered }
}
