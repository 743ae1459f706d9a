/** Undoes what a test did to the host, in reverse order, whether it passed or not. */
type Undo = () => unknown

const stack: Undo[] = []

export const cleanups = {
  add(undo: Undo): void {
    stack.push(undo)
  },
  async run(): Promise<void> {
    for (let undo = stack.pop(); undo !== undefined; undo = stack.pop()) await undo()
  },
}
