/** What other rooms use; not part of the public API. */
export { loadCatalogue } from './catalogue.js'
export { compareDocuments, comparisonText } from './comparison.js'
export { makeDocument, readDocument } from './document.js'
export type { LabDocument } from './document.js'
export { runExperiments } from './runner.js'
export { suggestWord, select } from './select.js'
export { countsText, listText, resultText, rowLine } from './text.js'
