/** The guest: a machine to migrate, whose RAM shows what a migration did wrong. */
export { Guest, MACHINE_TYPE } from './guest.js'
export type { GuestOptions, VerifyReport } from './guest.js'
export { VERDICTS, formatFinding } from './findings.js'
export type { Finding, PageVerdict } from './findings.js'
export { ACTIVITIES, TouchHistogram } from './vcpu-stats.js'
export type { Activity, VcpuStats } from './vcpu-stats.js'
export { IDLE_WORKLOAD, PATTERNS, formatWorkload, parseWorkload } from './workload.js'
export type { Pattern, Workload } from './workload.js'
