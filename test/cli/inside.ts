/** The command line in the process of the test, without the start of another one. */
import { Writable } from 'node:stream'
import { output } from '../../src/cli/output.js'
import { runCommandLine } from '../../src/cli/run-command-line.js'
import type { CliResult } from './support.js'

/**
 * Runs a command to its end, one at a time. For a command that reads no input, gets no signal, and
 * causes no warning of the library.
 */
export async function runInside(args: readonly string[]): Promise<CliResult> {
  const said = { stdout: '', stderr: '' }
  const into = (name: keyof typeof said): Writable =>
    new Writable({
      decodeStrings: false,
      write(text: string, _encoding, done) {
        said[name] += text
        done()
      },
    })
  const restore = output.redirect(into('stdout'), into('stderr'))
  try {
    const status = await output.finish(await runCommandLine(args))
    return { status, signal: null, ...said }
  } finally {
    restore()
  }
}
