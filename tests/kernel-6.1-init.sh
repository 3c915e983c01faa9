#!/bin/bash
# The first process of a kernel that tests/kernel-6.1.sh boots: sets the machine up, runs the tests,
# notes how they ended, and powers off.
set -euo pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# Whatever happens.
power_off() {
    sync
    echo o >/proc/sysrq-trigger
    sleep 60
}

mount_kernel_filesystems() {
    mount -t tmpfs tmpfs /run
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mkdir /dev/pts /dev/shm
    mount -t devpts devpts /dev/pts
    mount -t tmpfs tmpfs /dev/shm
    ln -s /proc/self/fd /dev/fd
}

load_modules() {
    # modprobe looks beneath lib/modules of a directory.
    mkdir -p /run/uml/lib
    ln -s /usr/lib/uml/modules /run/uml/lib/modules
    modprobe -d /run/uml -a overlay loop vfat dm-mod dm-flakey dm-log-writes
}

# The disk for what is written, and a root in which everything can be: the host's below, which stays
# as it is, and changes to it on the disk.
make_root() {
    mkdir /run/host /run/disk /run/root
    # Not as the kernel's own disk (ubd): that loses a request now and then, and then all hangs.
    mount -t hostfs -o "$LOVOL_DISK" hostfs /run/host
    mount -o loop /run/host/disk /run/disk
    mkdir /run/disk/upper /run/disk/work
    mkdir -m 1777 /run/disk/tmp
    mount -t overlay -o lowerdir=/,upperdir=/run/disk/upper,workdir=/run/disk/work overlay /run/root
}

enter_root() {
    local dir
    mkdir -p /run/root/old_root
    cd /run/root
    pivot_root . old_root
    for dir in dev proc sys run; do
        mount --move "/old_root/$dir" "/$dir"
    done
    umount --lazy /old_root
    # As systemd has it.
    mount --make-rshared /
}

# Runs the tests of all programs, and fails if one failed.
run_tests() {
    local program programs names result=0
    mapfile -t programs < <(cut -f 1 "$LOVOL_RUN/tests" | uniq)
    for program in "${programs[@]}"; do
        mapfile -t names < <(awk -F '\t' -v program="$program" '$1 == program { print $2 }' "$LOVOL_RUN/tests")
        "$program" --color never --exact "${names[@]}" || result=1
    done
    return "$result"
}

trap power_off EXIT
mount_kernel_filesystems
load_modules
make_root
enter_root

cd "$(cat "${LOVOL_RUN%/*}/checkout")"
# shellcheck source=/dev/null
. "${LOVOL_RUN%/*}/settings"
export TMPDIR=/run/disk/tmp LOVOL_TALLY=/run/tally HOME=/root USER=root
touch "$LOVOL_TALLY"
stty raw </dev/tty1
outcome='all passed'
run_tests </dev/null >/dev/tty1 2>&1 || outcome='a test failed'
{ echo "$outcome"; cat "$LOVOL_TALLY"; } >/dev/ubda
