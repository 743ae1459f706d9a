/** `demo --report FILE.svg`: the charts of the report as one picture. */
import { escapeHtml } from '../../view/index.js'
import type { RunResult } from '../demo/run.js'
import type { DemoVerdict } from '../demo/summary.js'
import { CHART_WIDTH, type PageKind, type Picture, colors } from './charts.js'
import { type ReportSettings, describeSettings, sectionsOf } from './sections.js'

/** Readable on white and on black: a picture does not know the colour of its page. */
const INK = '#7d8590'
const MARGIN = 24
const WIDTH = CHART_WIDTH + 2 * MARGIN
/** Of a line of text, in pixels. */
const LINE = 22
const GAP = 14

/** Places texts and charts below each other. */
class Sheet {
  readonly #parts: string[] = []
  #y = MARGIN

  text(text: string, style = ''): void {
    this.#y += LINE
    this.#parts.push(`<text x="${MARGIN}" y="${this.#y - 6}"${style}>${escapeHtml(text)}</text>`)
  }

  title(text: string): void {
    this.#y += GAP
    this.text(text, ' font-size="17" font-weight="600"')
  }

  legend(kinds: readonly PageKind[]): void {
    this.#y += LINE
    kinds.forEach((kind, index) => {
      const x = MARGIN + index * 130
      this.#parts.push(
        `<rect x="${x}" y="${this.#y - 17}" width="12" height="12" rx="2" fill="${colors[kind]}"/>` +
          `<text x="${x + 18}" y="${this.#y - 6}">${kind}</text>`,
      )
    })
  }

  chart({ heightPx, svg }: Picture): void {
    this.#y += 6
    this.#parts.push(`<g transform="translate(${MARGIN}, ${this.#y})">${svg}</g>`)
    this.#y += heightPx
  }

  toString(): string {
    const height = this.#y + MARGIN
    return (
      `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" color="${INK}" ` +
      `fill="${INK}" font-family="system-ui, sans-serif" font-size="14">\n` +
      `${this.#parts.join('\n')}\n</svg>\n`
    )
  }
}

export function renderPicture(
  result: RunResult,
  verdict: DemoVerdict,
  settings: ReportSettings,
): string {
  const sheet = new Sheet()
  const color = verdict.verified ? colors.pushed : colors.requested
  sheet.text(
    `${verdict.verified ? '✔' : '✖'} ${verdict.text}`,
    ` font-size="17" font-weight="600" fill="${color}"`,
  )
  sheet.text(describeSettings(settings))
  for (const { title, legend, charts } of sectionsOf(result)) {
    sheet.title(title)
    if (legend !== undefined) sheet.legend(legend)
    for (const { caption, picture } of charts) {
      if (caption !== undefined) sheet.text(caption)
      sheet.chart(picture)
    }
  }
  return sheet.toString()
}
