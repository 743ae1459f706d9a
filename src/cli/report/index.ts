/** What `demo --report` writes. */
export { renderReport } from './page.js'
export { renderPicture } from './picture.js'
