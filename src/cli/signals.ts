const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * Calls `onFirst` at the first signal that asks to end, `onSecond` at the next.
 *
 * @returns puts things back
 */
export function onSignals(onFirst: () => void, onSecond: () => void): () => void {
  let asked = false
  const handler = (): void => {
    const act = asked ? onSecond : onFirst
    asked = true
    act()
  }
  for (const signal of signals) process.on(signal, handler)
  return () => {
    for (const signal of signals) process.off(signal, handler)
  }
}
