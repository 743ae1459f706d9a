import { writeUserFile } from '../user-files.js'
import { output } from './output.js'

/** Writes a page to a file that the user has named. A FIFO without a reader waits for one, and says so. */
export async function writePage(file: string, text: string): Promise<void> {
  await writeUserFile(file, text, () => output.note(`waits for a reader of the FIFO ${file}`))
}
