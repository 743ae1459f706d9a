/** A monitor of a small guest, and a migration between two of them. */
import { Guest, type GuestOptions } from '../../src/guest/index.js'
import { commands } from '../../src/monitor/commands.js'
import { execute } from '../../src/monitor/hmp.js'
import { Monitor, type MonitorOptions } from '../../src/monitor/index.js'
import { cleanups } from '../support/cleanup.js'

export async function monitorOver(
  options: Partial<GuestOptions> & MonitorOptions = {},
): Promise<Monitor> {
  const { userModeOnly, ...guestOptions } = options
  const guest = await Guest.create({ ram: '8M', ...guestOptions })
  const monitor = new Monitor(guest, {
    incoming: options.incoming === true,
    ...(userModeOnly === undefined ? {} : { userModeOnly }),
  })
  cleanups.add(async () => {
    await monitor.close()
    await guest.close()
  })
  return monitor
}

/** Runs HMP lines and returns the text of the last one. */
export async function type(monitor: Monitor, ...lines: readonly string[]): Promise<string> {
  let text = ''
  for (const line of lines) ({ text } = await execute(monitor, commands, line))
  return text
}
