/** Untrusted text: QMP's JSON, the manifest of a parked VM, and its working set. */
import { PostcopyError } from '../../../src/errors.js'
import { JsonSplitter } from '../../../src/monitor/qmp/json-splitter.js'
import { decodeManifest, encodeManifest } from '../../../src/park/manifest.js'
import { decodeWorkingSet, encodeWorkingSet } from '../../../src/park/working-set-file.js'
import { PageOrder } from '../../../src/ram/page-order.js'
import { isJsonObject } from '../../../src/stream/json-reader.js'
import { bounded } from '../bounded.js'
import { type Target, demand } from '../target.js'

function piecesOf(bytes: Uint8Array, cut: number): string {
  const splitter = new JsonSplitter()
  const pieces: unknown[] = []
  for (const chunk of [bytes.slice(0, cut), bytes.slice(cut)]) pieces.push(...splitter.split(chunk))
  pieces.push(...splitter.end())
  return JSON.stringify(pieces)
}

/** The first byte is the place where the rest is cut, which must make no difference. */
export const json: Target = {
  seeds: [
    '{"execute": "qmp_capabilities", "id": 1}\n{"execute":"query-migrate"}',
    '[1, -2.5e3, true, null, "\\u00e9\\n"] "text" 12 tru',
    '{"a": {"b": [{}, []]}} }{ \u00e9',
  ].map((text) => Uint8Array.of(9, ...Buffer.from(text))),
  tokens: ['{', '}', '[', ']', '"', '\\', '\\u00', '\n', '1e9', 'null', '{"execute":'].map((text) =>
    Buffer.from(text),
  ),
  maxBytes: 2000,
  run: (input) => {
    const bytes = input.subarray(1)
    const pieces = bounded(bytes.length, () => piecesOf(bytes, input[0] ?? 0))
    demand(pieces === piecesOf(bytes, 0), 'the result depends on where the bytes are cut')
    const errors = pieces.match(/"error":"[^,"]*/g) ?? []
    return [...new Set(errors)].sort().join(' ')
  },
}

/** The text of a description: accepted as an object exactly if JSON.parse returns one. */
export const description: Target = {
  seeds: [
    '{"devices": [{"name": "globalstate", "fields": [{"size": 4, "array_len": 3}]}]}',
    '{"a": [-0, 1.5E+3, true, false, null, "\\u00Ea\\n\\/", {}, []] , "": {"b":0}}',
  ].map((text) => Buffer.from(text)),
  tokens: ['{', '}', '[', ']', '"', ',', ':', '\\', '\\u00e', '1e9', '0', '-', '.', 'null'].map(
    (text) => Buffer.from(text),
  ),
  maxBytes: 250,
  run: (input) => {
    const isObject = bounded(input.length, () => isJsonObject(input))
    const text = Buffer.from(input).toString('latin1')
    const isBraced = text.startsWith('{') && text.endsWith('}')
    demand(isObject === (isBraced && isParsed(input)), `taken for an object: ${isObject}`)
    return String(isObject)
  },
}

function isParsed(bytes: Uint8Array): boolean {
  try {
    JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
    return true
  } catch {
    return false
  }
}

const manifestText = Buffer.from(
  encodeManifest({
    state: 'incomplete',
    parkedAt: '2026-11-24T00:00:00Z',
    machineType: 'pc',
    ramSectionId: 2,
    way: 'postcopy',
    configuration: { file: 'configuration', lengthBytes: 7, sha256: 'a' },
    devices: { file: 'devices', lengthBytes: 7, sha256: 'b' },
    description: { file: 'description', lengthBytes: 7, sha256: 'c' },
    blocks: [
      { name: 'ram', file: 'ram-0', lengthBytes: 8192, pageSizeBytes: 4096, dataPages: 1 },
      {
        name: 'rom',
        file: 'ram-1',
        lengthBytes: 4096,
        pageSizeBytes: 4096,
        dataPages: 1,
        checksum: 'd',
        receivedFile: 'received-1',
      },
    ],
    statistics: {
      transferredBytes: 1,
      normalPages: 1,
      zeroPages: 1,
      discardedPages: 1,
      durationMs: 1,
      unsentPages: 0,
    },
  }),
)

export const manifest: Target = {
  seeds: [manifestText],
  tokens: ['null', '{}', '[]', '""', '1e300', '-1', '"../x"', '"__proto__"', '2', 'complete'].map(
    (text) => Buffer.from(text),
  ),
  maxBytes: 3000,
  run: (input) =>
    bounded(input.length, () => {
      try {
        const { state, blocks } = decodeManifest(Buffer.from(input).toString(), 'manifest.json')
        for (const { file, lengthBytes, pageSizeBytes } of blocks) {
          demand(!/[/\\]|^\./.test(file), `a file that leads elsewhere: ${file}`)
          demand(lengthBytes > 0 && lengthBytes % pageSizeBytes === 0, `${lengthBytes} bytes`)
        }
        return `${state} ${Math.min(blocks.length, 3)}`
      } catch (error) {
        if (!(error instanceof PostcopyError)) throw error
        return `${error.code} ${/: (\w+) must/.exec(error.message)?.[1] ?? ''}`
      }
    }),
}

const vm = decodeManifest(manifestText.toString(), 'manifest.json')

function workingSetText(): Uint8Array {
  const order = new PageOrder(vm.blocks)
  order.add(1, 0, 1)
  order.add(0, 0, 2)
  return encodeWorkingSet(order, vm)
}

export const workingSet: Target = {
  seeds: [workingSetText()],
  tokens: ['null', '{}', '[]', '0,0,1', '1,0,1', '0,1,1', '1e300', '-1', '0.5', '"runs":'].map(
    (text) => Buffer.from(text),
  ),
  maxBytes: 1000,
  run: (input) =>
    bounded(input.length, () => {
      try {
        const order = decodeWorkingSet(Buffer.from(input).toString(), 'working-set', vm)
        for (let run = 0; run < order.runCount; run += 1) {
          const pages = (vm.blocks[order.block(run)]?.lengthBytes ?? 0) / 4096
          const end = order.first(run) + order.count(run)
          demand(order.count(run) > 0 && end <= pages, `run ${run} ends at ${end} of ${pages}`)
        }
        demand(order.pageCount <= 3, `${order.pageCount} pages of 3`)
        return `${order.runCount} ${order.pageCount}`
      } catch (error) {
        if (!(error instanceof PostcopyError)) throw error
        return `${error.code} ${/: (\w+) must/.exec(error.message)?.[1] ?? ''}`
      }
    }),
}
