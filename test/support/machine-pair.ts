/** Two machines, of which one runs and can be migrated into the other. */
import { TestMachine } from './test-machine.js'

export const blocks = { ram: 2 ** 21 }

export function machines(of: Record<string, number> = blocks): {
  here: TestMachine
  there: TestMachine
} {
  const here = new TestMachine({ blocks: of })
  here.fill()
  here.start()
  return { here, there: new TestMachine({ blocks: of }) }
}
