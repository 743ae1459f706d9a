/** Code with mistakes that the fuzzer must find. */
import { type Target, demand } from './target.js'

/** Checks a byte only if all bytes before it are right, so that chance alone does not succeed. */
function isNeedle(input: Uint8Array): boolean {
  if (input[0] !== 0x6e) return false
  if (input[1] !== 0x65) return false
  if (input[2] !== 0xd1) return false
  return true
}

const seeds = [Uint8Array.of(1, 2, 3, 4, 5)]

export const targets: Readonly<Record<string, Target>> = {
  needle: {
    seeds,
    maxBytes: 5,
    run: (input) => {
      demand(!isNeedle(input), 'the needle')
      return ''
    },
  },
  hang: {
    seeds,
    maxBytes: 8,
    run: (input) => {
      while (input[0] === 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000)
      return ''
    },
  },
  death: {
    seeds,
    maxBytes: 8,
    run: (input) => {
      if (input[0] === 0) process.kill(process.pid, 'SIGKILL')
      return ''
    },
  },
}
