import assert from 'node:assert/strict'
import { checkParameters } from '../../src/migration/options.js'

describe('a parameter', () => {
  for (const name of ['x-timeout', 'x-max-connections'] as const) {
    it(`with which no connection is possible is refused: ${name} 0`, () => {
      assert.deepEqual(checkParameters({ [name]: 1 }), { [name]: 1 })
      assert.throws(() => checkParameters({ [name]: 0 }), {
        code: 'ERR_INVALID_PARAMETER',
        message: new RegExp(`${name} must be a whole number from 1 to`),
      })
    })
  }

  for (const name of ['x-handshake-timeout', 'x-silence-timeout'] as const) {
    it(`may be 0, which means never: ${name}`, () => {
      assert.deepEqual(checkParameters({ [name]: 0 }), { [name]: 0 })
    })
  }
})
