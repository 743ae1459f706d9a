/**
 * Shows the demo's progress on stderr: a changing line on a terminal, otherwise occasional lines.
 */
import { isAtRest } from '../../migration/index.js'
import { formatByteSize } from '../../units.js'
import { output } from '../output.js'
import type { Sample } from './run.js'

const BAR_WIDTH = 24
const PLAIN_INTERVAL_MS = 1000

const phases: Readonly<Record<string, string>> = {
  none: 'starting',
  setup: 'connecting',
  active: 'precopy: the guest runs at the source while its memory is sent',
  device: 'switchover: the guest is stopped',
  'postcopy-device': 'switchover: the guest is stopped, its device state is in transit',
  'postcopy-active': 'postcopy: the guest runs at the destination, missing pages are fetched',
  completed: 'completed: the destination has all pages and runs the guest',
}

export class Progress {
  #phase = ''
  #lastPlainMs = -Infinity

  /** Prints a permanent line. */
  note(text: string): void {
    output.say(`  ${text}`)
  }

  update(sample: Sample): void {
    const phase = phases[sample.status]
    if (phase !== undefined && phase !== this.#phase) {
      this.#phase = phase
      this.note(phase)
    }
    if (sample.status === 'none' || sample.status === 'setup' || isAtRest(sample.status)) return
    if (output.hasTerminal) output.showLine(`  ${bar(sample)} ${describe(sample)}`)
    else if (sample.atMs - this.#lastPlainMs >= PLAIN_INTERVAL_MS) {
      this.#lastPlainMs = sample.atMs
      this.note(describe(sample))
    }
  }

  /** Clears the changing line. May be called twice. */
  end(): void {
    output.clearLine()
  }
}

function bar({ totalBytes, remainingBytes }: Sample): string {
  const filled = Math.round((BAR_WIDTH * (totalBytes - remainingBytes)) / Math.max(1, totalBytes))
  return '█'.repeat(filled) + '░'.repeat(BAR_WIDTH - filled)
}

function describe(sample: Sample): string {
  const { totalBytes, remainingBytes, bytesPerSecond, faults, rounds, status } = sample
  const detail = status.startsWith('postcopy') ? `${faults} page faults` : `round ${rounds}`
  return (
    `${formatByteSize(totalBytes - remainingBytes)} of ${formatByteSize(totalBytes)}, ` +
    `${formatByteSize(bytesPerSecond)}/s, ${detail}`
  )
}
