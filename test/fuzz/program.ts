/** An input as a program: each step has four bytes, an action and three operands. */
export interface Step {
  readonly what: number
  readonly a: number
  readonly b: number
  readonly c: number
}

export const STEP_BYTES = 4

/** The steps after the first `STEP_BYTES`, which select the setting. */
export function* stepsOf(input: Uint8Array): Generator<Step> {
  for (let at = STEP_BYTES; at + STEP_BYTES <= input.length; at += STEP_BYTES) {
    yield stepAt(input, at)
  }
}

export function stepAt(input: Uint8Array, at: number): Step {
  const [what = 0, a = 0, b = 0, c = 0] = input.subarray(at, at + STEP_BYTES)
  return { what, a, b, c }
}

/** The input that encodes these steps; the first one selects the setting. */
export function programOf(
  steps: readonly (readonly [number, number?, number?, number?])[],
): Uint8Array {
  return Uint8Array.from(steps.flatMap(([what, a = 0, b = 0, c = 0]) => [what, a, b, c]))
}
