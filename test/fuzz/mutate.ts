/** Makes new inputs from old ones. */
import type { Random } from './random.js'

/** Boundary values of our code. */
const EDGES = [0, 1, 2, 4, 8, 0x10, 0x20, 0x22, 0x28, 0x7f, 0x80, 0xff]
const WIDE_EDGES = [0, 1, 8, 16, 4095, 4096, 4104, 0x7fff, 0xffff, 0x10000, 0x200000, 0xffffffff]
const MOST_PIECE_BYTES = 64
const MOST_STEPS = 4

export interface Material {
  readonly corpus: readonly Uint8Array[]
  readonly tokens: readonly Uint8Array[]
  readonly maxBytes: number
}

/** One input of the corpus, changed in a few places. */
export function mutate(random: Random, { corpus, tokens, maxBytes }: Material): Uint8Array {
  let bytes: Uint8Array = Uint8Array.from(random.pick(corpus))
  for (let steps = 1 + random.below(MOST_STEPS); steps > 0; steps -= 1) {
    bytes = step(random, bytes, corpus, tokens)
  }
  return bytes.subarray(0, maxBytes)
}

function step(
  random: Random,
  bytes: Uint8Array,
  corpus: readonly Uint8Array[],
  tokens: readonly Uint8Array[],
): Uint8Array {
  const at = random.below(bytes.length + 1)
  const length = Math.min(1 + random.below(MOST_PIECE_BYTES), bytes.length - at)
  switch (random.below(9)) {
    case 0:
      return overwrite(bytes, at, Uint8Array.of((bytes[at] ?? 0) ^ (1 << random.below(8))))
    case 1:
      return overwrite(bytes, at, Uint8Array.of(random.pick(EDGES)))
    case 2:
      return overwrite(bytes, at, Uint8Array.of(random.below(256)))
    case 3:
      return overwrite(bytes, at, bigEndian(random.pick(WIDE_EDGES), random.pick([2, 4, 8])))
    case 4:
      return splice(bytes, at, length, new Uint8Array())
    case 5:
      return splice(bytes, random.below(bytes.length + 1), 0, bytes.slice(at, at + length))
    case 6:
      return splice(bytes, at, 0, piece(random, random.pick(corpus)))
    case 7:
      return splice(bytes, at, random.pick([0, length]), piece(random, random.pick(corpus)))
    default:
      if (tokens.length === 0) return splice(bytes, at, 0, Uint8Array.of(random.below(256)))
      return splice(bytes, at, random.pick([0, length]), random.pick(tokens))
  }
}

function piece(random: Random, bytes: Uint8Array): Uint8Array {
  const at = random.below(bytes.length + 1)
  return bytes.subarray(at, at + 1 + random.below(MOST_PIECE_BYTES))
}

function overwrite(bytes: Uint8Array, at: number, patch: Uint8Array): Uint8Array {
  bytes.set(patch.subarray(0, bytes.length - at), at)
  return bytes
}

function splice(bytes: Uint8Array, at: number, remove: number, insert: Uint8Array): Uint8Array {
  const result = new Uint8Array(bytes.length - remove + insert.length)
  result.set(bytes.subarray(0, at))
  result.set(insert, at)
  result.set(bytes.subarray(at + remove), at + insert.length)
  return result
}

function bigEndian(value: number, widthBytes: number): Uint8Array {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setUint32(4, value)
  return bytes.subarray(8 - widthBytes)
}
