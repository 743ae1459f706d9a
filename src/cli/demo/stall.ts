/** Explains a stalled migration between two processes here by a lack of free processors. */
import { readFileSync, readdirSync } from 'node:fs'
import { availableParallelism, loadavg } from 'node:os'

/** Name of the threads that run the guest. */
const VCPU = /^vcpu\//
const NS_PER_MS = 1e6

/** The use of the processors during a stall. */
export interface ProcessorUse {
  readonly vcpus: number
  readonly processors: number
  /** Threads that run or are ready to run, averaged over the last minute. */
  readonly load: number
  /**
   * The longest total time that one of the migration threads has waited for a processor, in ms;
   * undefined if the kernel does not report it.
   */
  readonly waitedMs: number | undefined
}

/**
 * @param pids - of the processes that take part
 * @param proc - the kernel's /proc
 */
export function processorUse(vcpus: number, pids: readonly number[], proc = '/proc'): ProcessorUse {
  const waits = pids.flatMap((pid) => waitsOf(`${proc}/${pid}/task`))
  return {
    vcpus,
    processors: availableParallelism(),
    load: loadavg()[0] ?? 0,
    waitedMs: waits.length === 0 ? undefined : Math.max(...waits),
  }
}

/** @param stalledMs - for how long there was no progress */
export function explainStall(
  { vcpus, processors, load, waitedMs }: ProcessorUse,
  stalledMs: number,
): string {
  const nothing = `no progress for ${Math.round(stalledMs / 1000)} s`
  const isBusy = waitedMs === undefined ? load > 2 * processors : waitedMs > stalledMs / 2
  if (!isBusy) return `${nothing}; the cause is not known`
  const waited =
    waitedMs === undefined
      ? ''
      : `, and a migration thread has waited ${Math.round(waitedMs / 1000)} s for a processor`
  return (
    `${nothing} because the processors are busy: the ${vcpus} vCPUs and all other threads share ` +
    `${processors}, ${Math.round(load)} threads want to run${waited}. Give fewer --vcpus or a slower ` +
    '--workload (rate=), or try again when the host is less busy'
  )
}

/** How long each thread other than the vCPUs has waited for a processor, in ms. */
function waitsOf(tasks: string): number[] {
  try {
    return readdirSync(tasks).flatMap((id) => {
      const thread = `${tasks}/${id}`
      if (VCPU.test(readFileSync(`${thread}/comm`, 'utf8'))) return []
      const [, waitedNs] = readFileSync(`${thread}/schedstat`, 'utf8').split(' ')
      return [Number(waitedNs) / NS_PER_MS]
    })
  } catch {
    // The thread or process has just ended, or the kernel has no schedstat.
    return []
  }
}
