import assert from 'node:assert/strict'
import { isPlaintext } from '../../src/net/plaintext.js'
import { defaultParameters } from '../../src/migration/options.js'
import { parseUri } from '../../src/net/uri.js'

describe('guest memory crosses the network unencrypted', () => {
  const cases: readonly (readonly [string, boolean])[] = [
    ['unix:/x', false],
    ['tcp::4444', false],
    ['tcp:localhost:4444', false],
    ['tcp:127.0.0.1:4444', false],
    ['tcp:127.1.2.3:4444', false],
    ['tcp:[::1]:4444', false],
    ['tcp:[::ffff:127.0.0.1]:4444', false],
    ['tcp:0.0.0.0:4444', true],
    ['tcp:[::]:4444', true],
    ['tcp:192.0.2.1:4444', true],
    ['tcp:[2001:db8::1]:4444', true],
    ['tcp:example.org:4444', true],
  ]
  for (const [uri, expected] of cases) {
    it(`${expected ? 'on' : 'not on'} ${uri}, and never with TLS`, () => {
      assert.equal(isPlaintext(parseUri(uri), defaultParameters), expected)
      assert.equal(isPlaintext(parseUri(uri), { ...defaultParameters, 'tls-creds': '/x' }), false)
    })
  }
})
