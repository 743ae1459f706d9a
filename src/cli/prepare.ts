/** What can begin before the command line is parsed. */
import { prepareSource } from '../source/index.js'

/** `resume` needs a worker, whose start takes as long as all that comes before. */
export function prepare(words: readonly string[]): void {
  const [command, ...rest] = words
  const isRun = rest.length > 1 && !rest.includes('--help') && !rest.includes('-h')
  if (command === 'resume' && isRun) prepareSource()
}
