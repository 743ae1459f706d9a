import assert from 'node:assert/strict'
import { PostcopyError } from '../../src/errors.js'
import { Guest, formatWorkload, parseWorkload } from '../../src/guest/index.js'

describe('workload text', () => {
  it('has a default for every option', () => {
    assert.deepEqual(parseWorkload('sweep'), {
      pattern: 'sweep',
      hotBytes: 0,
      writesPercent: 20,
      fillPercent: 100,
      rate: 0,
      touches: 0,
      seed: 1,
    })
  })

  it('takes every option', () => {
    assert.deepEqual(parseWorkload('zipf:hot=64M,writes=30,fill=50,rate=1000,touches=9,seed=7'), {
      pattern: 'zipf',
      hotBytes: 64 * 2 ** 20,
      writesPercent: 30,
      fillPercent: 50,
      rate: 1000,
      touches: 9,
      seed: 7,
    })
  })

  for (const text of ['idle', 'chase:hot=4096', 'random:writes=0,fill=0,seed=0']) {
    it(`prints ${text} unchanged`, () => {
      assert.equal(formatWorkload(parseWorkload(text)), text)
    })
  }

  const refused: [string, RegExp][] = [
    ['', /unknown workload "": one of idle, sweep, random, zipf, chase/],
    ['swep', /unknown workload "swep": one of idle/],
    ['sweep:', /unknown option ""/],
    ['sweep:heat=1', /unknown option "heat": one of hot, writes, fill, rate, touches, seed/],
    ['sweep:toString=1', /unknown option "toString"/],
    ['sweep:writes', /option writes needs a value/],
    ['sweep:writes=101', /writes=101: must be an integer from 0 to 100/],
    ['sweep:writes=-1', /writes=-1: must be an integer/],
    ['sweep:writes=', /writes=: must be an integer/],
    ['sweep:fill=1.5', /fill=1.5: must be an integer/],
    ['sweep:hot=many', /hot: "many" is not a size/],
    ['sweep:hot=1K', /hot=1K is less than a page/],
    ['sweep:seed=99999999999999999', /seed=9+: must be an integer of at least 0/],
    ['sweep:writes=1,writes=2', /option writes is given twice/],
  ]
  for (const [text, message] of refused) {
    it(`refuses "${text}"`, () => {
      assert.throws(
        () => parseWorkload(text),
        (error) => {
          assert(error instanceof PostcopyError)
          assert.equal(error.code, 'ERR_INVALID_WORKLOAD')
          assert.match(error.message, message)
          return true
        },
      )
    })
  }
})

describe('machine options', () => {
  const refused: [string, object, RegExp][] = [
    ['a hot set larger than RAM', { workload: 'sweep:hot=2M' }, /hot=2.00 MiB is more than/],
    ['no vCPU', { vcpus: 0 }, /0 vCPUs: 1 to 256/],
    ['too little RAM', { ram: '48K' }, /48\.0 KiB of RAM is not enough for 1 vCPU: at least/],
    [
      'RAM that is not whole pages',
      { ram: 2 ** 20 + 1 },
      /1048577 bytes of RAM are not whole pages: give a multiple of 4\.00 KiB/,
    ],
    ['too much RAM', { ram: '99999G' }, /97\.7 TiB of RAM is too much: give less than 16\.0 TiB/],
    ['a misspelt option', { vcpu: 2 }, /unknown option "vcpu"/],
  ]
  for (const [what, options, message] of refused) {
    it(`refuse ${what}`, async () => {
      await assert.rejects(Guest.create({ ram: '1M', ...options }), message)
    })
  }
})
