/** A guest process for QMP: its monitor, and the monitor's events as QMP's events. */
import type { Monitor, QuitReason } from '../monitor.js'
import type { QmpEvent, QmpTarget, ShutdownReason } from './target.js'

const reasons: Readonly<Record<QuitReason, ShutdownReason>> = {
  command: 'host-qmp-quit',
  signal: 'host-signal',
  done: 'guest-shutdown',
}

export function guestTarget(monitor: Monitor): QmpTarget {
  return {
    control: monitor,
    listen: (tell) => {
      // Sent only if a client has enabled them, as in QEMU.
      const tellMigration = (event: QmpEvent): void => {
        if (monitor.queryCapabilities().events) tell(event)
      }
      const listeners = {
        migration: (status: string) => tellMigration({ event: 'MIGRATION', data: { status } }),
        pass: (pass: number) => tellMigration({ event: 'MIGRATION_PASS', data: { pass } }),
        running: (running: boolean) => tell({ event: running ? 'RESUME' : 'STOP' }),
        quit: (reason: QuitReason) =>
          tell({ event: 'SHUTDOWN', data: { guest: false, reason: reasons[reason] } }),
      }
      monitor.on('migration', listeners.migration)
      monitor.on('dirty-sync', listeners.pass)
      monitor.on('running', listeners.running)
      monitor.on('quit', listeners.quit)
      return () => {
        monitor.off('migration', listeners.migration)
        monitor.off('dirty-sync', listeners.pass)
        monitor.off('running', listeners.running)
        monitor.off('quit', listeners.quit)
      }
    },
  }
}
