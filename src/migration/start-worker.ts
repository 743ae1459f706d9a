/** Starts workers: when they are needed, or ahead of that, because a start takes Node 50 ms and more. */
import { MessageChannel, type MessagePort, Worker, type WorkerOptions } from 'node:worker_threads'
import { createFlags, Flag, type WorkerInput } from './worker-input.js'

export interface StartedWorker {
  readonly worker: Worker
  /** Call when the worker has announced its start, or has ended. */
  readonly started: () => void
}

interface StartOptions extends Pick<WorkerOptions, 'trackUnmanagedFds'> {
  readonly data?: unknown
  readonly name: string
  /** Where the data will arrive. */
  readonly port?: MessagePort
}

/** How long `process.exit()` waits for a worker to start. */
const EXIT_WAIT_MS = 10_000

/** The flags of the workers that have not started yet. */
const starting = new Set<Int32Array>()

/** `process.exit()` terminates all workers, and must not do so while one starts. */
function awaitStarting(): void {
  for (const { flags } of ahead.values()) give(flags)
  for (const flags of starting) Atomics.wait(flags, Flag.READY, 0, EXIT_WAIT_MS)
}

export function startWorker(url: URL, options: Omit<StartOptions, 'port'>): StartedWorker {
  const flags = createFlags()
  return { worker: startWith(url, flags, options), started: watch(flags) }
}

function watch(flags: Int32Array): () => void {
  if (starting.size === 0) process.on('exit', awaitStarting)
  starting.add(flags)
  return () => {
    starting.delete(flags)
    if (starting.size === 0) process.off('exit', awaitStarting)
  }
}

interface AheadWorker extends StartedWorker {
  readonly flags: Int32Array
  readonly port: MessagePort
  /** Stops watching for a failure. */
  readonly release: () => void
}

/** Workers without data, by the URL of their module. */
const ahead = new Map<string, AheadWorker>()

/**
 * Starts a worker ahead. It loads its modules and waits. The next `WorkerThread` of this module uses
 * it. It does not keep the process from ending.
 */
export function startAhead(url: URL, name: string): void {
  if (ahead.has(url.href)) return
  const { port1, port2 } = new MessageChannel()
  const flags = createFlags()
  const worker = startWith(url, flags, { name, port: port2 })
  worker.unref()
  const started = watch(flags)
  // Its owner then starts another one, which fails in the same way and reports it.
  const failed = (): void => {
    started()
    ahead.delete(url.href)
  }
  const release = (): void => {
    worker.off('error', failed).off('exit', failed)
  }
  worker.once('error', failed).once('exit', failed)
  ahead.set(url.href, { worker, flags, port: port1, started, release })
}

/** @returns undefined if no worker of this module was started ahead */
export function takeStarted(url: URL, data: unknown): StartedWorker | undefined {
  const waiting = ahead.get(url.href)
  if (waiting === undefined) return undefined
  const { worker, flags, port, release } = waiting
  port.postMessage(data)
  port.close()
  ahead.delete(url.href)
  release()
  worker.ref()
  give(flags)
  return waiting
}

/** Lets a worker that was started ahead continue. */
function give(flags: Int32Array): void {
  Atomics.store(flags, Flag.GIVEN, 1)
  Atomics.notify(flags, Flag.GIVEN)
}

/**
 * A worker inherits the flags of the process. `--input-type` is set if the program is standard
 * input or an argument (`node --input-type=module -e CODE`), and would make the worker reject its
 * file.
 */
function startWith(
  url: URL,
  flags: Int32Array<SharedArrayBuffer>,
  { data, port, ...rest }: StartOptions,
): Worker {
  const workerData: WorkerInput = {
    data,
    ready: flags.buffer,
    ...(port === undefined ? {} : { port }),
  }
  const options = { ...rest, workerData, transferList: port === undefined ? [] : [port] }
  const inherited = process.execArgv
  const execArgv = inherited.filter(
    (flag, index) => !flag.startsWith('--input-type') && inherited[index - 1] !== '--input-type',
  )
  if (execArgv.length === inherited.length) return new Worker(url, options)
  try {
    return new Worker(url, { ...options, execArgv })
  } catch (error) {
    // Node rejects V8 and per-process flags in `execArgv`; they apply to all threads anyway.
    if (!isInvalidFlags(error)) throw error
    const allowed = execArgv.filter((flag) => !error.message.includes(flag))
    return new Worker(url, { ...options, execArgv: allowed })
  }
}

function isInvalidFlags(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && error.code === 'ERR_WORKER_INVALID_EXEC_ARGV'
}
