#!/usr/bin/env node
/** The command `postcopy`. */
import { CommanderError } from 'commander'
import { compileWithoutThreads } from './compile-threads.js'
import { endProcess } from './end-process.js'
import { reportFailure } from './failure.js'
import { createProgram } from './program.js'
import { printWarnings } from './warnings.js'

let status = 0
compileWithoutThreads()
printWarnings()
try {
  await createProgram((given) => {
    status = given
  }).parseAsync()
} catch (error) {
  reportFailure(error)
  status = error instanceof CommanderError ? error.exitCode : 1
}
await endProcess(status)
