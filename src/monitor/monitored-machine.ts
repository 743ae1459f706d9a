import type { VcpuStats, VerifyReport } from '../guest/index.js'
import type { MigratableMachine } from '../migration/index.js'

/** A machine that a monitor drives. A command whose function the machine lacks does not exist. */
export interface MonitoredMachine extends MigratableMachine {
  /** HMP `info cpus`: one entry a vCPU. */
  vcpuStats?(): VcpuStats[]
  /**
   * HMP `verify`: checks all of guest RAM.
   *
   * @throws StateError while the guest runs, or before it has arrived
   */
  verify?(): Promise<VerifyReport>
}
