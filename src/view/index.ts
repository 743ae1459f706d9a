/** Charts as SVG text, and escaping for HTML. */
export { escapeHtml } from './html.js'
export { drawSvg } from './svg.js'
