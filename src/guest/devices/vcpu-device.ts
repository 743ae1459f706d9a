/**
 * The state of one vCPU: its workload, the position of its generator, and its counters. The count
 * of writes also checks the ledger: the sum of the ledger's entries must be the pages filled at the
 * start plus the writes since then.
 *
 * State, version 1: u32 vCPUs, u32 pages of all of them; u8 pattern, u8 writes, u8 fill, then u64
 * each: hot, touches, rate, seed; u64 random (all 64 bits), position, touches, reads, writes,
 * failed checks, pages filled.
 */
import { type Reader, Writer } from '../../stream/index.js'
import { VcpuState } from '../native.js'
import type { VcpuSet } from '../vcpu-set.js'
import { PATTERNS, formatWorkload, type Workload } from '../workload.js'
import { refuseState, type Device } from './device.js'

export class VcpuDevice implements Device {
  readonly idstr = 'vcpu'
  readonly instanceId: number
  readonly version = 1
  readonly #vcpus: VcpuSet

  constructor(vcpus: VcpuSet, index: number) {
    this.#vcpus = vcpus
    this.instanceId = index
  }

  save(): Uint8Array {
    const { pattern, writesPercent, fillPercent, hotBytes, touches, rate, seed } =
      this.#vcpus.workload
    const out = new Writer().u32(this.#vcpus.count).u32(this.#vcpus.pageCount)
    out.u8(PATTERNS.indexOf(pattern)).u8(writesPercent).u8(fillPercent)
    out.u64(hotBytes).u64(touches).u64(rate).u64(seed)
    const words = new BigUint64Array(VcpuState.stride)
    this.#vcpus.save(this.instanceId, words)
    for (const word of words) out.u32(Number(word >> 32n)).u32(Number(word & 0xffffffffn))
    return out.take()
  }

  load(state: Reader): void {
    const count = state.u32()
    const pageCount = state.u32()
    if (count !== this.#vcpus.count || pageCount !== this.#vcpus.pageCount) {
      refuseState(
        this,
        `saved on a machine of ${count} vCPUs with ${pageCount} pages, this one has ` +
          `${this.#vcpus.count} with ${this.#vcpus.pageCount}`,
      )
    }
    const workload = this.#loadWorkload(state)
    if (!this.#vcpus.adopt(workload)) {
      refuseState(
        this,
        `runs ${formatWorkload(workload)}, the others ${formatWorkload(this.#vcpus.workload)}`,
      )
    }
    const words = new BigUint64Array(VcpuState.stride)
    words.forEach((_, i) => {
      words[i] = (BigInt(state.u32()) << 32n) | BigInt(state.u32())
    })
    if (!this.#vcpus.load(this.instanceId, words)) {
      refuseState(this, `its position ${words[VcpuState.position] ?? 0n} is outside of its pages`)
    }
  }

  #loadWorkload(state: Reader): Workload {
    const number = state.u8()
    const pattern = PATTERNS[number]
    const writesPercent = state.u8()
    const fillPercent = state.u8()
    if (pattern === undefined || writesPercent > 100 || fillPercent > 100) {
      refuseState(this, `no such workload: ${number}, ${writesPercent} %, ${fillPercent} %`)
    }
    const hotBytes = state.u64()
    const touches = state.u64()
    const rate = state.u64()
    const seed = state.u64()
    return { pattern, hotBytes, writesPercent, fillPercent, rate, touches, seed }
  }
}
