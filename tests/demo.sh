#!/usr/bin/env bash
# lovol's main job from start to end, on real loop devices, on any filesystem.
#
#   tests/demo.sh [LOVOL]    the binary to show, target/release/lovol unless told
#
# It works in a directory of its own and leaves nothing behind, even when it is interrupted.
set -euo pipefail

binary=$(realpath "${1:-$(dirname "${BASH_SOURCE[0]}")/../target/release/lovol}")
[ -x "$binary" ] || { printf 'demo: %s is not there: run make demo\n' "$binary" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || exec sudo "$(realpath "${BASH_SOURCE[0]}")" "$binary"

dir=$(realpath "$(mktemp -d "${TMPDIR:-/tmp}/lovol-demo.XXXXXX")")
export LOVOL_POOL=$dir/pool
export PATH=${binary%/*}:$PATH:/usr/sbin:/sbin

# --- what is ours, and how it goes away -------------------------------------------------------

# the mount points beneath our directory, the last mounted first
our_mounts() {
    awk -v dir="$dir/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | tac
}

# the loop devices on files beneath our directory
our_loops() {
    losetup --list --noheadings --raw --output NAME,BACK-FILE |
        awk -v dir="$dir/" 'index($2, dir) == 1 { print $1 }'
}

nothing_left() {
    [ -z "$(our_mounts)$(our_loops)" ]
}

take_down() {
    local target device
    for target in $(our_mounts); do
        fsfreeze --unfreeze "$target" 2>/dev/null || true
        umount "$target" || true
    done
    for device in $(our_loops); do
        losetup --detach "$device" 2>/dev/null || true
    done
}

clean_up() {
    local status=$?
    trap '' INT TERM HUP
    trap - EXIT
    set +e
    cd /

    for _ in {1..50}; do
        take_down
        nothing_left && break
        sleep 0.1
    done
    if nothing_left; then
        chattr -R -f -i "$dir"
        rm -rf --one-file-system "$dir"
    fi

    if [ -e "$dir" ]; then
        { printf '\nLeft behind, please look at it:\n'; our_mounts; our_loops; echo "$dir"; } >&2
        exit 1
    fi
    if [ "$status" -eq 0 ]; then
        printf '\nNothing is left: no mount, no loop device, no file.\n'
    else
        printf '\nThe demo stopped (%s). Nothing is left: no mount, no loop device, no file.\n' "$status" >&2
    fi
    exit "$status"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# --- how it is shown --------------------------------------------------------------------------

# say TEXT: what comes now, and why
say() {
    printf '\n# %s\n' "$1"
}

# run COMMAND...: show it as it is typed, then do it
run() {
    printf '$ %s\n' "$*"
    "$@"
}

# the first of some real directories that is there and not too big
something_real() {
    local candidate
    for candidate in /usr/share/doc /usr/share/man /usr/share/zoneinfo; do
        [ -d "$candidate" ] || continue
        if [ "$(du -sm "$candidate" | cut -f 1)" -le 1000 ]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    printf '/etc\n'
}

reflinks_work_here() {
    printf 'probe' >"$dir/probe"
    cp --reflink=always "$dir/probe" "$dir/probe.clone" 2>/dev/null
    local status=$?
    rm -f "$dir/probe" "$dir/probe.clone"
    return "$status"
}

# --- the main job -----------------------------------------------------------------------------

source=$(something_real)
copy=mnt/home/${source##*/}
cd "$dir"

run lovol --version
if reflinks_work_here; then
    say "A pool: this filesystem has reflinks, so a directory will do."
    run lovol init "$LOVOL_POOL"
else
    say "A pool: this filesystem ($(findmnt -n -o FSTYPE -T "$dir")) has no reflinks, so it gets an XFS image of its own."
    run lovol init --loop 8G --sparse "$LOVOL_POOL"
fi

say "A volume, mounted, with something real in it."
run lovol create home 50G
run mkdir -p mnt/home mnt/old
run lovol mount home mnt/home
run cp -a "$source" mnt/home/

say "Two snapshots; nobody who writes to mnt/home has to stop."
run lovol snapshot home
run lovol snapshot home@before-upgrade

say "An upgrade goes wrong."
run rm -r "$copy"
run lovol list -a

say "The snapshot still has every file, as it was."
run lovol mount home@before-upgrade mnt/old
run diff -r --no-dereference "$source" "mnt/old/${source##*/}"

say "A clone is a volume of its own and depends on nothing."
run lovol clone home@before-upgrade trial
run lovol umount mnt/old
run lovol delete home@before-upgrade
run lovol list -a
run lovol show home

say "Does everything agree?"
run lovol umount home
run lovol check
