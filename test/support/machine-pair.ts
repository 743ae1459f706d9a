/** Two machines of 2 MiB, of which one runs and can be migrated into the other. */
import { TestMachine } from './test-machine.js'

export const blocks = { ram: 2 ** 21 }

export function machines(): { here: TestMachine; there: TestMachine } {
  const here = new TestMachine({ blocks })
  here.fill()
  here.start()
  return { here, there: new TestMachine({ blocks }) }
}
