#!/usr/bin/env bash
# Boots a Debian with systemd, four times, whose volumes come from /etc/fstab as README tells it:
# they are provisioned and mounted, a timer takes a snapshot, it goes down cleanly, and after a hard
# stop in the middle of snapshots nothing is frozen.  The kernel is a process of this machine
# (user-mode-linux); what is done in each boot is in tests/boot-guest.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# A boot ends by itself within so many seconds, or something hangs.
limit=${LIMIT:-300}

fail() {
    printf 'boot: %s\n' "$1" >&2
    [ ! -s "$dir/said" ] || sed 's/^/  guest: /' "$dir/said" >&2
    [ ! -s "$dir/console" ] || tail -n 60 "$dir/console" | sed 's/^/  console: /' >&2
    exit 1
}

pass() {
    passed=$((passed + 1))
    printf 'boot: %s\n' "$1"
}

# The code blocks of README's section, each in a file of its own: README-1, ...
copy_readme() {
    awk -v to="$1/README-" '
        /^## / { is_section = ($0 == "## In /etc/fstab") }
        is_section && /^```/ { is_code = !is_code; count += is_code; next }
        is_section && is_code { print >(to count) }' README.md
}

make_root() {
    local root=$dir/root modules
    tests/debian-root.sh "$root" systemd-sysv udev kmod dbus fdisk xfsprogs e2fsprogs
    make -s install BIN="$binary" DESTDIR="$root" PREFIX=/usr
    modules=(/usr/lib/uml/modules/*)
    mkdir -p "$root/lib/modules"
    cp -a "${modules[0]}" "$root/lib/modules/"
    mkdir "$root/boot-test"
    cp tests/boot-guest.sh "$root/boot-test/guest"
    cc -shared -fPIC -o "$root/boot-test/stop-in-freeze.so" tests/stop-in-freeze.c
    copy_readme "$root/boot-test"
    echo '/dev/ubda / ext4 defaults 0 1' >"$root/etc/fstab"
    cat >"$root/etc/systemd/system/boot-test.service" <<'UNIT'
[Unit]
After=multi-user.target network.target lovol-check.service
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/boot-test/guest
[Install]
WantedBy=graphical.target
UNIT
    chroot "$root" systemctl -q enable boot-test.service
    chroot "$root" systemctl -q mask getty@tty1.service getty.target systemd-firstboot.service
    chroot "$root" systemctl -q set-default graphical.target
    truncate -s 12G "$dir/disk"
    mkfs.ext4 -q -F -d "$root" "$dir/disk"
    rm -rf "$root"
}

# The guest's own words go to its second console, what systemd and the kernel say to the first.
start() {
    : >"$dir/said"
    timeout --kill-after=10 "$limit" tests/user-mode-linux.sh "$dir" \
        mem=1G uml_dir="$dir" umid=uml ubda="$dir/disk" root=/dev/ubda rw \
        init=/lib/systemd/systemd systemd.show_status=yes quiet \
        con=null con0=null,fd:1 con1=null,fd:3 \
        3>"$dir/said" >"$dir/console" 2>&1 </dev/null &
    kernel=$!
}

# boot WHAT: to its power-off.
boot() {
    start
    wait "$kernel" || fail "$1: the kernel died or hung"
    [ "$(tail -n 1 "$dir/said" | tr -d '\r')" = 'all is well' ] || fail "$1"
    # But for the snapshot that is killed to see it thawed.
    ! grep -E 'Failed (to )?unmount|FAILED' "$dir/console" | grep -v 'napshot of the lovol volume' ||
        fail "$1: systemd could not do it"
    pass "$1"
}

# Takes the plug out while the guest takes snapshots.
boot_and_cut() {
    start
    for _ in $(seq "$limit"); do
        grep -q 'taking snapshots' "$dir/said" && break
        sleep 1
    done
    grep -q 'taking snapshots' "$dir/said" || fail "no snapshot was begun"
    # As long as some snapshots take, and a part of one.
    sleep "2.$((RANDOM % 1000))"
    kill_kernel
    pass 'cut in the middle of snapshots'
}

kill_kernel() {
    [ ! -e "$dir/uml/pid" ] || kill -KILL -- "-$(cat "$dir/uml/pid")" 2>/dev/null || true
    kill "${kernel:-0}" 2>/dev/null || true
    wait "${kernel:-}" 2>/dev/null || true
    rm -rf "$dir/uml"
}

binary=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/release/lovol}")
dir=$(mktemp -d)
kernel=
passed=0
trap '[ -z "$kernel" ] || kill_kernel; rm -rf --one-file-system "$dir"' EXIT

make_root
boot 'README was followed'
boot 'the volumes came back, one of them made anew, and a timer took a snapshot'
boot_and_cut
boot 'nothing is frozen, and all is there'
echo "$passed passed, 0 failed"
