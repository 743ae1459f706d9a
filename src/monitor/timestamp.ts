/** The current time, in the format of QMP's events. */
export function timestamp(): { seconds: number; microseconds: number } {
  const timeUs = Math.floor((performance.timeOrigin + performance.now()) * 1000)
  return { seconds: Math.floor(timeUs / 1e6), microseconds: timeUs % 1e6 }
}
