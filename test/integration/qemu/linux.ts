/**
 * A real Linux guest: Debian's cloud kernel and busybox, which hashes a file in its tmpfs for ever
 * and counts on the serial console. The hash must never change, and the count must continue.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

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

const DISK_MODULES = [
  ...['virtio/virtio_ring', 'virtio/virtio', 'virtio/virtio_pci_legacy_dev'],
  ...['virtio/virtio_pci_modern_dev', 'virtio/virtio_pci', 'block/virtio_blk'],
]

/** Writes each line of its console to the start of its disk, and prints what it reads there. */
const DISK_INIT = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t devtmpfs none /dev
for module in ${DISK_MODULES.join(' ')}; do
  /bin/busybox insmod "/lib/\${module##*/}.ko"
done
echo ready
while read -r line; do
  printf '%-512s' "$line" | /bin/busybox dd of=/dev/vda conv=fsync 2>/dev/null
  echo 3 >/proc/sys/vm/drop_caches
  echo "disk: $(/bin/busybox head -c 64 /dev/vda)"
done
`

/** A guest with a virtio disk; as {@link linuxGuest}. */
export function linuxGuestWithDisk(folder: string): string[] {
  return linuxGuest(folder, DISK_INIT, DISK_MODULES)
}

/** Builds the initramfs in a folder and returns QEMU's arguments; requires `linuxGuest`. */
export function linuxGuest(folder: string, init = INIT, modules: readonly string[] = []): string[] {
  const kernel = readdirSync('/boot').find((file) => /^vmlinuz-.*-cloud-amd64$/.test(file)) ?? ''
  const root = join(folder, 'root')
  mkdirSync(join(root, 'bin'), { recursive: true })
  mkdirSync(join(root, 'dev'))
  cpSync('/bin/busybox', join(root, 'bin/busybox'))
  writeFileSync(join(root, 'init'), init)
  chmodSync(join(root, 'init'), 0o755)
  const version = kernel.replace('vmlinuz-', '')
  mkdirSync(join(root, 'lib'))
  for (const name of modules) {
    const module = join('/lib/modules', version, 'kernel/drivers', `${name}.ko`)
    cpSync(module, join(root, 'lib', basename(module)))
  }
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
