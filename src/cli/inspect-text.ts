/** Parts of the output of `inspect`. */
import Table from 'cli-table3'
import type { DeviceSize } from '../park/index.js'
import { printable } from '../printable.js'

export function deviceLines(
  lengthBytes: number | undefined,
  sections: readonly DeviceSize[] | undefined,
): string[] {
  if (lengthBytes === undefined) return ['devices: none']
  const whole = `devices: ${count(lengthBytes)} bytes`
  if (sections === undefined) return [`${whole}; the length of each section is not recorded`]
  return [
    `${whole}, ${sections.length} sections`,
    table(
      ['device', 'instance', 'version', 'bytes'],
      sections.map(({ idstr, instanceId, version, lengthBytes: bytes }) => [
        printable(idstr),
        count(instanceId),
        count(version),
        count(bytes),
      ]),
    ),
  ]
}

export function table(head: string[], rows: string[][]): string {
  const made = new Table({ head, style: { head: [], border: [], compact: true } })
  made.push(...rows)
  return made.toString()
}

export function text(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join('')
}

export function count(value: number): string {
  return value.toLocaleString('en')
}
