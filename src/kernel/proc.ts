/** Reads files below /proc and /sys, which may be absent on some kernels. */
import { readFileSync } from 'node:fs'

/** The content of a file; `undefined` if it does not exist or is not readable. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

/** The first capture group of `pattern` in a file. */
export function fieldOf(path: string, pattern: RegExp): string | undefined {
  return pattern.exec(readText(path) ?? '')?.[1]
}

export function readNumber(path: string): number | undefined {
  const text = readText(path)?.trim()
  return text === undefined || text === '' ? undefined : Number(text)
}
