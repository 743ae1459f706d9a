/** Page sources: what holds memory that is to be sent. They know nothing of the wire. */
export type { PageSource, PageSourceBlock } from './page-source.js'
export { openSparseFile } from './sparse-file.js'
