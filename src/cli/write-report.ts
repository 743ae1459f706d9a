import { writeUserFile } from '../user-files.js'
import { output } from './output.js'

/**
 * Writes a page or a picture to the user's file. If it is a FIFO without a reader, waits for one
 * and reports that.
 */
export async function writeReport(file: string, text: string): Promise<void> {
  await writeUserFile(file, text, () => output.note(`waiting for a reader of the FIFO ${file}`))
}
