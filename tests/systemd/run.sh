#!/usr/bin/env bash
# Installs the package on a systemd of its own and tries the service there: run.sh PACKAGE.deb
#
# For root, on a machine that has systemd; it need not have been booted with it. What is written is written to
# memory and gone afterwards: the checks see this machine's files, in namespaces of their own.
set -euo pipefail

boot() {
  mount --make-rprivate /
  mount -t tmpfs tmpfs "$1/memory"
  mkdir "$1/memory"/{upper,work,root}
  cd "$1/memory"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$PWD/upper,workdir=$PWD/work" root
  cd root
  mount -t proc proc proc
  mount --rbind /sys sys
  mount --rbind /dev dev
  mount -t tmpfs tmpfs run
  mount -t tmpfs tmpfs tmp
  mount --bind "$1/given" mnt
  if [ ! -e sys/fs/cgroup/cgroup.controllers ]; then
    mount -t tmpfs tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/{systemd,unified}
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
  fi
  echo 0123456789abcdef0123456789abcdef > etc/machine-id
  # Nothing of what this machine would start, but these.
  cat > etc/systemd/system/checks.service << 'UNIT'
[Unit]
After=basic.target
Requires=basic.target
[Service]
Type=oneshot
ExecStart=/bin/bash -c 'bash /mnt/checks.sh > /mnt/log 2>&1; echo $? > /mnt/code; systemctl exit'
UNIT
  for unit in udevd udev-trigger timesyncd networkd resolved; do
    ln -sf /dev/null "etc/systemd/system/systemd-$unit.service"
  done
  mkdir tmp/old
  pivot_root . tmp/old
  umount --lazy /tmp/old
  # As in a container, where one may end.
  exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=checks.service
}

if [ "$1" = --boot ]; then
  boot "$2"
fi
here=$(realpath "$0")
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
mkdir "$directory"/{memory,given}
cp "$1" "$directory/given/zerotouch.deb"
cp "$(dirname "$here")/checks.sh" "$directory/given"
timeout 300 unshare --fork --pid --mount --net --ipc --uts --cgroup --kill-child \
  bash "$here" --boot "$directory" || true
cat "$directory/given/log"
exit "$(cat "$directory/given/code")"
