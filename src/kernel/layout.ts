/**
 * Names for the numbers that cross between TypeScript and native code in arrays.
 *
 * Each layout is declared once in TypeScript and once in C++ (native/common/layout.h);
 * test/kernel/interface.test.ts compares the two.
 */

declare const callName: unique symbol

/** The array that a native function takes its numbers from and puts its results in. */
export type Numbers<Call extends string> = Float64Array & { readonly [callName]: Call }

/** The fields of one call: set the arguments, make the call, read the results. Then reuse it. */
export type CallNumbers<Call extends string, Argument extends string, Result extends string> = {
  readonly numbers: Numbers<Call>
} & { [Name in Argument]: number } & { readonly [Name in Result]: number }

export interface CallLayout {
  readonly call: string
  readonly arguments: readonly string[]
  readonly results: readonly string[]
}

export interface CallNumbersClass<
  Call extends string,
  Argument extends string,
  Result extends string,
> {
  readonly layout: CallLayout
  new (): CallNumbers<Call, Argument, Result>
}

/**
 * Makes the class of the numbers of a native function. An argument that was never set is NaN, which
 * the function rejects with a RangeError.
 */
export function callNumbers<
  const Call extends string,
  const Arguments extends readonly string[],
  const Results extends readonly string[],
>(
  call: Call,
  argumentNames: Arguments,
  resultNames: Results,
): CallNumbersClass<Call, Arguments[number], Results[number]> {
  const names = [...argumentNames, ...resultNames]
  class Fields {
    static readonly layout = { call, arguments: argumentNames, results: resultNames }
    readonly numbers = new Float64Array(names.length).fill(Number.NaN)
  }
  names.forEach((name, index) => {
    const get = function (this: Fields): number | undefined {
      return this.numbers[index]
    }
    const set = function (this: Fields, value: number): void {
      this.numbers[index] = value
    }
    Object.defineProperty(
      Fields.prototype,
      name,
      index < argumentNames.length ? { get, set } : { get },
    )
  })
  // TypeScript cannot see the accessors that were defined by name.
  return Fields as unknown as CallNumbersClass<Call, Arguments[number], Results[number]>
}

export interface RowLayout {
  readonly row: string
  readonly fields: readonly string[]
}

/** The index of each field in a row of a list, and the length of a row. */
export type Row<Field extends string> = {
  readonly layout: RowLayout
  readonly stride: number
} & { readonly [Name in Field]: number }

/** Declares the fields of the rows in an array that native code fills or reads. */
export function rowOf<const Fields extends readonly string[]>(
  row: string,
  fields: Fields,
): Row<Fields[number]> {
  const indexes = Object.fromEntries(fields.map((name, index) => [name, index]))
  return { ...indexes, layout: { row, fields }, stride: fields.length } as Row<Fields[number]>
}
