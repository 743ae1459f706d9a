/** One fact that was seen. Arrays are compared element by element. */
export type Observation = string | number | boolean | readonly (string | number | boolean)[]

/** Facts by name. */
export type Observations = Record<string, Observation>
