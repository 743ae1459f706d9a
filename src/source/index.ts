/** The source: its API, and the worker that runs it. */
export { prepareSource } from './prepare.js'
export { Source } from './source.js'
export type { SourceOptions } from './options.js'
export type { Owed } from './source.js'
