/** Files below /proc and /sys, of which not every kernel has every one. */
import { readFileSync } from 'node:fs'

/** `undefined` where it is not there, or not for this user. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

/** The first group of a pattern. */
export function fieldOf(path: string, pattern: RegExp): string | undefined {
  return pattern.exec(readText(path) ?? '')?.[1]
}

export function readNumber(path: string): number | undefined {
  const text = readText(path)?.trim()
  return text === undefined || text === '' ? undefined : Number(text)
}
