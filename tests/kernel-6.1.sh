#!/usr/bin/env bash
# Runs the tests on Linux 6.1, as a process of this machine: Debian's user-mode-linux.
#
#   tests/kernel-6.1.sh             every test
#   tests/kernel-6.1.sh groups::    those that have this in their name
#
# One kernel for each processor, each with a share of the tests.  Its root is this machine's, read
# only, and all that the tests write lies on a disk image that is removed when it ends: nothing here
# is changed, and it needs no root here.
#
#   KERNELS=4    how many of them at once
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# A kernel and its tests end within so many seconds, or something hangs.
limit=2400
memory_mib=2048

fail() {
    printf 'kernel-6.1: %s\n' "$1" >&2
    exit 1
}

# The programs that hold the tests, one a line.
build() {
    cargo test --locked --no-run --message-format=json |
        sed -n '/"profile":{[^}]*"test":true/s/.*"executable":"\([^"]*\)".*/\1/p'
}

# list WORD...: the tests with one of the words in their names, as `PROGRAM<tab>NAME`, one a line.
list() {
    local program
    while read -r program; do
        "$program" --list --format terse "$@" </dev/null | sed -n "s|: test\$||; T; s|^|$program\t|p"
    done
}

# The kernel keeps its memory in a file: in /dev/shm, or where TMPDIR says.
place_memory() {
    local free_mib
    free_mib=$(df --output=avail -B M /dev/shm 2>/dev/null | tr -dc '0-9\n' | tail -n 1)
    if [ "${free_mib:-0}" -gt $((kernels * memory_mib)) ]; then
        unset TMPDIR TMP TEMP
    else
        export TMPDIR=$dir
    fi
}

# boot NUMBER: a kernel that runs the tests of `NUMBER/tests` and writes how they ended into
# `NUMBER/outcome`.  What they print comes from its second console, what the kernel says goes into
# `NUMBER/log`.  Paths with spaces do not belong on its command line.
boot() {
    local own=$dir/$1
    truncate -s 64G "$own/disk"
    mkfs.ext4 -q -F -J size=64 "$own/disk"
    truncate -s 1M "$own/outcome"
    timeout --kill-after=10 "$limit" linux.uml \
        mem="${memory_mib}M" uml_dir="$own" umid=uml \
        root=/dev/root rootfstype=hostfs rootflags=/ ro init="$dir/init" LOVOL_RUN="$own" \
        ubda="$own/disk" ubdb="$own/outcome" \
        con=null con0=null,fd:1 con1=null,fd:3 \
        3>&1 >"$own/log" 2>&1 </dev/null | sed -u "w $own/output"
}

# Whether all tests of that kernel have passed; says what is known if not.  A program that was asked
# for a test which it does not know passes without it: so they are counted.
has_passed() {
    local own=$dir/$1 outcome passed
    outcome=$(head -n 1 "$own/outcome" | tr -d '\0')
    passed=$(awk '/^test result: / { passed += $4 } END { print passed + 0 }' "$own/output")
    [ "$outcome" = 'all passed' ] && [ "$passed" = "$(wc -l <"$own/tests")" ] && return
    printf 'kernel-6.1: kernel %s: %s, %s tests of %s passed\n' "$1" \
        "${outcome:-it died or hung}" "$passed" "$(wc -l <"$own/tests")" >&2
    tail -n 60 "$own/log" >&2
    return 1
}

[ "$(uname -m)" = x86_64 ] || fail "user-mode-linux is for x86-64 only"
command -v linux.uml >/dev/null || fail "linux.uml is missing: tests/install-deps.sh check"

kernels=${KERNELS:-$(nproc)}
programs=$(build)
dir=$(mktemp -d)
trap 'rm -rf /tmp/last; mv "$dir" /tmp/last' EXIT
place_memory

list "$@" <<<"$programs" >"$dir/tests"
cp tests/kernel-6.1-init.sh "$dir/init"
printf '%s' "$PWD" >"$dir/checkout"
total=$(wc -l <"$dir/tests")
[ "$total" -gt 0 ] || fail "no test has such a name"
[ "$kernels" -le "$total" ] || kernels=$total
printf '%d tests on %s, %d kernels\n' "$total" "$(linux.uml --version)" "$kernels"

# One test to each in turn, so that neighbours, which often take as long, are spread.
for number in $(seq "$kernels"); do
    mkdir "$dir/$number"
    awk -v number="$number" -v kernels="$kernels" 'NR % kernels == number % kernels' \
        "$dir/tests" >"$dir/$number/tests"
    boot "$number" &
done
wait

failed=0
for number in $(seq "$kernels"); do
    has_passed "$number" || failed=1
done
exit "$failed"
