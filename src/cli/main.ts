#!/usr/bin/env node
/** The command `postcopy`. */
import { compileWithoutThreads } from './compile-threads.js'
import { endProcess, failUnlessEnded } from './end-process.js'
import { runCommandLine } from './run-command-line.js'
import { printWarnings } from './warnings.js'

compileWithoutThreads()
printWarnings()
failUnlessEnded()
void runCommandLine(process.argv.slice(2)).then(endProcess)
