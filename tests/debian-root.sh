#!/usr/bin/env bash
# Makes a directory the root of a small Debian, of this machine's release.
#
#   tests/debian-root.sh DIR PACKAGE...
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

dir=$1
shift
packages=$(IFS=,; echo "$*")
# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")

log=$(mktemp)
trap 'rm -f "$log"' EXIT
debootstrap --variant=minbase --include="$packages" "$suite" "$dir" >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    echo "debian-root: debootstrap has failed" >&2
    exit 1
}
rm -rf "$dir"/var/cache/apt/archives/*.deb "$dir"/var/lib/apt/lists/*
