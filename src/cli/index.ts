/** The commands. Exports what benchmarks and long runs use. */
export { compileWithoutThreads } from './compile-threads.js'
export { endProcess } from './end-process.js'
export { GuestProcess } from './guest-process.js'
export { parseCount } from './options.js'
export { output } from './output.js'
export { runCommand } from './run-command.js'
export type { CommandRun } from './run-command.js'
export { writeReport } from './write-report.js'
