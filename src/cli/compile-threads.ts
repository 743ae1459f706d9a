/** Keeps V8's compiler threads from competing with the threads that handle page faults. */
import { availableParallelism } from 'node:os'
import { setFlagsFromString } from 'node:v8'

/** With more processors, the compiler threads can use one that no vCPU needs. */
const FEW_PROCESSORS = 2

/**
 * Makes V8 optimize code on the thread that runs it. On few processors, its compiler threads would
 * take one from a vCPU whose page has arrived, for a scheduler slice each. This affects workers
 * that are started later. Only the command may call it, because it changes the whole process.
 */
export function compileWithoutThreads(): void {
  if (availableParallelism() <= FEW_PROCESSORS) setFlagsFromString('--no-concurrent-recompilation')
}
