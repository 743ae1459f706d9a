#!/usr/bin/env node
/** The command `postcopy`. */
import { compileWithoutThreads } from './compile-threads.js'
import { endProcess, failUnlessEnded } from './end-process.js'
import { prepare } from './prepare.js'
import { runCommandLine } from './run-command-line.js'
import { printWarnings } from './warnings.js'

const words = process.argv.slice(2)
compileWithoutThreads()
prepare(words)
printWarnings()
failUnlessEnded()
void runCommandLine(words).then(endProcess)
