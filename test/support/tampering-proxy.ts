/**
 * A proxy between our two ends that decodes the stream and encodes it again with one change. It
 * has a thread of its own, because a destination that loads devices parks the main thread.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { cleanups } from './cleanup.js'
import { portOf } from './fake-peer.js'

export type CutPoint =
  | 'before package'
  | 'in package'
  | 'after package'
  /** After this many pages that follow the package. */
  | number

export type Tampering =
  | { readonly type: 'none' }
  /** The first discard command is dropped. */
  | { readonly type: 'drop discard' }
  /** A page of vCPUs is dropped. */
  | { readonly type: 'drop page' }
  /** The content of two pages is swapped. */
  | { readonly type: 'swap pages' }
  /** A page that is sent in precopy and again in postcopy has its old content the second time. */
  | { readonly type: 'replay page' }
  /** One bit of a page is flipped, before or after the package. */
  | { readonly type: 'flip bit'; readonly phase: 'precopy' | 'postcopy' }
  /** One bit of the state of a device is flipped. */
  | { readonly type: 'flip device bit'; readonly idstr: string }
  /** The connection is reset. */
  | { readonly type: 'cut'; readonly at: CutPoint }
  /** The SHUT of the destination is dropped. */
  | { readonly type: 'swallow SHUT' }

/** Describes the change that was made. */
export interface Tampered {
  /** Offsets of the changed pages in `ram`. */
  readonly offsets: readonly number[]
}

export interface TamperingProxy {
  readonly uri: string
  /** Resolves when the change has been made. */
  readonly tampered: Promise<Tampered>
}

/** Plain data for the proxy's thread. */
export interface ProxyData {
  readonly targetPort: number
  readonly tampering: Tampering
}

/** Listens, and forwards one connection to the destination at `uri`. */
export async function startProxy(uri: string, tampering: Tampering): Promise<TamperingProxy> {
  const workerData: ProxyData = { targetPort: portOf(uri), tampering }
  const worker = new Worker(new URL('./tampering-worker.js', import.meta.url), { workerData })
  cleanups.add(() => worker.terminate())
  const [port] = (await once(worker, 'message')) as [number]
  const tampered = once(worker, 'message').then(([message]) => message as Tampered)
  tampered.catch(() => undefined)
  return { uri: `tcp:127.0.0.1:${port}`, tampered }
}
