/** Checksums of a few pieces of a file: enough to notice another file in its place. */
import { createHash } from 'node:crypto'
import type { ByteSource } from './file-bytes.js'

/** A piece of the file, by which a change is noticed. */
export interface Sample {
  readonly offset: number
  readonly sha256: string
}

const SAMPLES = 16
const SAMPLE_BYTES = 4096

/** Samples at equal distances, the first and the last piece included. */
export async function takeSamples(source: ByteSource): Promise<Sample[]> {
  const last = Math.max(0, source.endOffset - SAMPLE_BYTES)
  const offsets = Array.from({ length: SAMPLES }, (_, index) =>
    Math.floor((last * index) / (SAMPLES - 1)),
  )
  const samples: Sample[] = []
  for (const offset of new Set(offsets)) {
    samples.push({ offset, sha256: await digestAt(source, offset) })
  }
  return samples
}

/** Whether the samples are still in the file. */
export async function samplesFit(source: ByteSource, samples: readonly Sample[]): Promise<boolean> {
  if (samples.length > SAMPLES || samples.length === 0) return false
  for (const { offset, sha256 } of samples) {
    if ((await digestAt(source, offset)) !== sha256) return false
  }
  return true
}

export function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

async function digestAt(source: ByteSource, offset: number): Promise<string> {
  const piece = new Uint8Array(SAMPLE_BYTES)
  return digestOf(piece.subarray(0, await source.read(piece, offset)))
}
