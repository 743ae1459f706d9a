/** Pictures and pages as text. */
export { escapeHtml } from './html.js'
export { drawSvg } from './svg.js'
