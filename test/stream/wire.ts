/** Bytes of a stream in readable form: hex, and names in quotes. Spaces are ignored. */
export function wire(text: string): Uint8Array {
  const named = text.replaceAll(/"([^"]*)"/g, (_, name: string) => {
    return Buffer.from(name, 'latin1').toString('hex')
  })
  const digits = named.replaceAll(' ', '')
  if (!/^([0-9a-f]{2})*$/.test(digits)) throw new Error(`not hex: ${digits}`)
  return Buffer.from(digits, 'hex')
}
