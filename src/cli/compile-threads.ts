/** V8's own threads, beside those that serve page faults. */
import { availableParallelism } from 'node:os'
import { setFlagsFromString } from 'node:v8'

/** With more, there is one that nobody waits for. */
const FEW_PROCESSORS = 2

/**
 * Has V8 optimize in the thread whose code it is. Its threads for that would take one of few
 * processors from a vCPU that has its page, for a slice of the scheduler each. It counts for
 * workers that are started later, and is for those whose process it is: the command, not the
 * library.
 */
export function compileWithoutThreads(): void {
  if (availableParallelism() <= FEW_PROCESSORS) setFlagsFromString('--no-concurrent-recompilation')
}
