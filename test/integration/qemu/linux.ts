/**
 * A real Linux guest: Debian's cloud kernel and busybox, which hashes a file in its tmpfs for ever
 * and counts on the serial console. The hash must never change, and the count must continue.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const INIT = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /tmp
/bin/busybox mount -t tmpfs none /tmp
/bin/busybox seq 1 400000 > /tmp/file
i=0
while true; do
  i=$((i + 1))
  set -- $(/bin/busybox md5sum /tmp/file)
  echo "tick $i $1"
done
`

/** The hash of the output of `seq 1 400000`. */
export const FILE_HASH = '9661da04da603a826131297f907b45fb'

/** Builds the initramfs in a folder and returns QEMU's arguments; requires `linuxGuest`. */
export function linuxGuest(folder: string): string[] {
  const kernel = readdirSync('/boot').find((file) => /^vmlinuz-.*-cloud-amd64$/.test(file)) ?? ''
  const root = join(folder, 'root')
  mkdirSync(join(root, 'bin'), { recursive: true })
  mkdirSync(join(root, 'dev'))
  cpSync('/bin/busybox', join(root, 'bin/busybox'))
  writeFileSync(join(root, 'init'), INIT)
  chmodSync(join(root, 'init'), 0o755)
  const image = join(folder, 'initramfs')
  const archive = execFileSync('cpio', ['-o', '-H', 'newc', '--quiet'], {
    cwd: root,
    input: execFileSync('find', ['.'], { cwd: root }),
    maxBuffer: 2 ** 26,
  })
  writeFileSync(image, archive)
  const command = 'console=ttyS0 quiet mitigations=off random.trust_cpu=on tsc=unstable'
  return ['-kernel', join('/boot', kernel), '-initrd', image, '-append', command]
}
