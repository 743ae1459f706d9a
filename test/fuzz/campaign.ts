/** Runs a target in a child process and monitors it. */
import { fork } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Job, Message, Progress } from './child.js'

export interface Outcome extends Progress {
  readonly findings: readonly { readonly inputs: readonly Uint8Array[]; readonly text: string }[]
}

export interface CampaignOptions extends Omit<Job, 'tryingFile' | 'module'> {
  readonly module?: string
  /** A child that sends no message for this long is considered to hang. */
  readonly silentMs: number
  readonly onProgress?: (progress: Progress) => void
}

/** Ends after the given time, or when the child is dead. */
export async function fuzz(options: CampaignOptions): Promise<Outcome> {
  const { silentMs, onProgress, ...rest } = options
  const directory = mkdtempSync(join(tmpdir(), 'postcopy-fuzz-'))
  const tryingFile = join(directory, 'trying')
  const module = new URL('targets/index.js', import.meta.url).href
  const job: Job = { module, ...rest, tryingFile }
  const findings: { inputs: Uint8Array[]; text: string }[] = []
  let progress: Progress = { executions: 0, blocks: 0, corpus: 0 }
  const child = fork(new URL('child.js', import.meta.url), [JSON.stringify(job)])
  const silence = { isTooLong: false }
  const watch = (): NodeJS.Timeout =>
    setTimeout(() => {
      silence.isTooLong = true
      child.kill('SIGKILL')
    }, silentMs)
  let timer = watch()
  child.on('message', (message: Message) => {
    clearTimeout(timer)
    timer = watch()
    if (message.type === 'found') {
      findings.push({ inputs: [Buffer.from(message.inputHex, 'hex')], text: message.text })
    } else {
      progress = message.progress
      onProgress?.(progress)
    }
  })
  const how = await new Promise<string>((resolve) => {
    child.on('exit', (code, signal) => resolve(signal ?? `exit code ${String(code)}`))
  })
  clearTimeout(timer)
  if (how !== 'exit code 0') {
    const text = silence.isTooLong ? `it hangs: nothing in ${silentMs} ms` : `it died: ${how}`
    findings.push({ inputs: linesOf(tryingFile), text: `${text}, on one of these inputs` })
  }
  rmSync(directory, { recursive: true })
  return { ...progress, findings }
}

function linesOf(file: string): Uint8Array[] {
  try {
    const lines = readFileSync(file, 'latin1').trimEnd().split('\n')
    return lines.map((line) => Buffer.from(line, 'hex'))
  } catch {
    return []
  }
}
