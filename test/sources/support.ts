import assert from 'node:assert/strict'
import { readSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type SavedErrorCode,
  SavedFileError,
  type SavedImage,
  type SavedOptions,
  openSaved,
} from '../../src/sources/index.js'
import { cleanups } from '../support/cleanup.js'
import { temporaryFolder } from '../cli/support.js'
import { pagesOf } from './samples.js'

/** Writes a file into a folder of its own, which is removed after the test. */
export async function save(bytes: Uint8Array, name = 'saved'): Promise<string> {
  const path = join(await temporaryFolder(), name)
  writeFileSync(path, bytes)
  return path
}

/** Opens a saved VM until the end of the test. */
export async function opened(path: string, options: SavedOptions = {}): Promise<SavedImage> {
  const image = await openSaved(path, options)
  cleanups.add(() => image.close())
  return image
}

/** By page: the byte that it is filled with, of the block `m`; pages without data are left out. */
export function bytesOf(image: SavedImage): Record<number, number> {
  const block = image.blocks.find(({ name }) => name === 'm')
  assert(block !== undefined)
  const found: Record<number, number> = {}
  for (const { page, file, offset } of pagesOf(block)) {
    const bytes = Buffer.alloc(4096)
    assert.equal(readSync(image.fds[file] ?? -1, bytes, 0, 4096, offset), 4096)
    assert(bytes.every((byte) => byte === bytes[0]))
    found[page] = bytes[0] ?? -1
  }
  return found
}

export type SavedCode = (typeof SavedErrorCode)[keyof typeof SavedErrorCode]

/** Demands an error with this code that names the file and matches. */
export async function refuses(
  path: string,
  code: SavedCode,
  message: RegExp,
  options: SavedOptions = {},
): Promise<void> {
  await assert.rejects(openSaved(path, options), (error) => {
    assert(error instanceof SavedFileError, String(error))
    assert.equal(error.code, code, error.message)
    assert.match(error.message, message)
    assert(error.message.startsWith(`${path}: `), error.message)
    return true
  })
}
