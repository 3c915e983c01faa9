#!/usr/bin/env bash
# Runs the tests on Linux 6.1, as a process of this machine: Debian's user-mode-linux.
#
#   tests/kernel-6.1.sh             every test, those that need the device mapper too
#   tests/kernel-6.1.sh groups::    those that have this in their names
#
# One kernel for each processor at a time, each with a share of the tests: a small one, as a kernel of
# this kind may stand still after a quarter of an hour of them.  Its root is this machine's, read only,
# and all that the tests write lies on a disk image that is removed at the end: nothing here is
# changed, and it needs no root here.  `LOVOL_...` from the environment reaches the tests.
#
#   KERNELS=4    so many at once
#   SHARE=20     so many tests each
#
# A system call takes many times as long there: so each verb gets 2 cases of faults, not 10.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# A kernel and its tests end within so many seconds, or something hangs.  One that hangs or dies is
# booted once more: user-mode Linux does so now and then.  A test that fails has failed.
limit=${LIMIT:-900}
memory_mib=2048
# The most that the tests of one kernel have written.
disk_mib=4096

export LOVOL_FAULTS=${LOVOL_FAULTS:-2}

fail() {
    printf 'kernel-6.1: %s\n' "$1" >&2
    exit 1
}

# The programs that hold the tests, one a line.
build() {
    cargo test --locked --no-run --lib --test '*' --message-format=json |
        sed -n '/"profile":{[^}]*"test":true/s/.*"executable":"\([^"]*\)".*/\1/p'
}

# list WORD...: the tests with one of the words in their names, as `PROGRAM<tab>NAME`, one a line.
list() {
    local program
    while read -r program; do
        "$program" --list --format terse "$@" </dev/null | sed -n "s|: test\$||; T; s|^|$program\\t|p"
    done
}

# has_room MIB: whether /dev/shm has so much.
has_room() {
    local free_mib
    free_mib=$(df --output=avail -B M /dev/shm 2>/dev/null | tail -n 1 | tr -dc 0-9)
    [ "${free_mib:-0}" -gt $((count * $1)) ]
}

# Where the disks are: in memory if there is enough, as each write there is waited for.
make_disks() {
    if has_room $((memory_mib + disk_mib)); then
        mktemp --directory --tmpdir=/dev/shm
    else
        mktemp --directory
    fi
}

# The kernel keeps its memory in a file: in /dev/shm if that is large enough, or where TMPDIR says.
place_memory() {
    if has_room "$memory_mib"; then
        unset TMPDIR TMP TEMP
    else
        export TMPDIR=$dir
    fi
}

# prepare NUMBER: the files of a kernel: its share of the tests, one to each in turn, so that
# neighbours, which often take as long, are spread; a disk; and a place for how it ended.
prepare() {
    local own=$dir/$1
    mkdir "$own"
    awk -v number="$1" -v kernels="$kernels" 'NR % kernels == number % kernels' "$dir/tests" >"$own/tests"
    mkdir -p "$disks/$1"
    truncate -s 64G "$disks/$1/disk"
    mkfs.ext4 -q -F -J size=64 "$disks/$1/disk"
    truncate -s 1M "$own/outcome"
    mkfifo "$own/console"
}

# boot NUMBER: becomes a kernel that runs its tests.  What they print goes to its second console,
# what the kernel says into a file.  Paths with spaces do not belong on its command line.
boot() {
    local own=$dir/$1
    exec timeout --kill-after=10 "$limit" tests/user-mode-linux.sh "$own" \
        mem="${memory_mib}M" uml_dir="$own" umid=uml \
        root=/dev/root rootfstype=hostfs rootflags=/ ro init="$dir/init" LOVOL_RUN="$own" LOVOL_DISK="$disks/$1" \
        ubda="$own/outcome" \
        con=null con0=null,fd:1 con1=null,fd:3 \
        3>"$own/console" >"$own/log" 2>&1 </dev/null
}

# A kernel ends by itself, unless this is ^C.  One that was killed leaves its pid file, and helpers in
# its process group, which hold its console open.
end_kernels() {
    local pid_file
    kill "${running[@]}" 2>/dev/null || true
    wait "${running[@]}" 2>/dev/null || true
    for pid_file in "$dir"/*/uml/pid; do
        end_rest_of "$pid_file"
    done
    wait
}

end_rest_of() {
    [ ! -e "$1" ] || kill -KILL -- "-$(cat "$1")" 2>/dev/null || true
}

# How that kernel's tests ended; nothing where the kernel did not get so far.
outcome_of() {
    head -n 1 "$dir/$1/outcome" | tr -d '\0'
}

# Whether all tests of that kernel have passed; says what is known if not.  A program that is asked
# for a test which it does not know passes without it: so they are counted.
has_passed() {
    local own=$dir/$1 outcome passed wanted
    outcome=$(outcome_of "$1")
    passed=$(awk '/^test result: / { passed += $4 } END { print passed + 0 }' "$own/output")
    wanted=$(wc -l <"$own/tests")
    [ "$outcome" = 'all passed' ] && [ "$passed" = "$wanted" ] && return
    printf 'kernel-6.1: kernel %s: %s, %s tests of %s have passed\n' "$1" \
        "${outcome:-it died or hung}" "$passed" "$wanted" >&2
    [ -n "$outcome" ] || tail -n 60 "$own/log" >&2
    return 1
}

# What the tests have counted, behind the first line of the outcome.
keep_tally() {
    [ -z "${LOVOL_TALLY:-}" ] || tail -n +2 "$dir/$1/outcome" | tr -d '\0' >>"$LOVOL_TALLY"
}

[ "$(uname -m)" = x86_64 ] || fail "user-mode-linux is for x86-64 only"
command -v linux.uml >/dev/null || fail "linux.uml is missing: tests/install-deps.sh check"

count=${KERNELS:-$(nproc)}
share=${SHARE:-16}
programs=$(build)
running=()
number_of=()
reader_of=()
dir=$(mktemp --directory)
disks=$(make_disks)
trap 'end_kernels; rm -rf "$dir" "$disks"' EXIT
# Without these, it would end and leave its kernels to themselves.
trap 'exit 130' INT
trap 'exit 143' TERM HUP
place_memory

list "$@" <<<"$programs" >"$dir/tests"
total=$(wc -l <"$dir/tests")
[ "$total" -gt 0 ] || fail "no test has such a name"
kernels=$(((total + share - 1) / share))
[ "$count" -le "$kernels" ] || kernels=$count
[ "$kernels" -le "$total" ] || kernels=$total
cp tests/kernel-6.1-init.sh "$dir/init"
printf '%s' "$PWD" >"$dir/checkout"
for name in "${!LOVOL_@}"; do
    declare -p "$name"
done >"$dir/settings"
printf '%d tests on Linux %s, %d at a time\n' "$total" "$(linux.uml --version)" "$count"

failed=0
queue=()
mapfile -t queue < <(seq "$kernels")
was_again=()
# judge NUMBER: when that kernel has ended, and what it printed is read.
judge() {
    end_rest_of "$dir/$1/uml/pid"
    wait "${reader_of[$1]}" || true
    if [ -z "$(outcome_of "$1")" ] && [ -z "${was_again[$1]:-}" ]; then
        has_passed "$1" || printf 'kernel-6.1: kernel %s is booted again\n' "$1" >&2
        was_again[$1]=yes
        queue+=("$1")
        rm -rf "${dir:?}/$1" "${disks:?}/$1"
        return
    fi
    keep_tally "$1"
    has_passed "$1" || failed=1
    rm -rf "${disks:?}/$1"
}

start() {
    local number=$1
    prepare "$number"
    # Whole lines, as the others print too.
    sed -u "w $dir/$number/output" <"$dir/$number/console" &
    reader_of[number]=$!
    boot "$number" &
    running+=($!)
    number_of[$!]=$number
}

while [ "${#queue[@]}" -gt 0 ] || [ "${#running[@]}" -gt 0 ]; do
    if [ "${#queue[@]}" -gt 0 ] && [ "${#running[@]}" -lt "$count" ]; then
        next=${queue[0]}
        queue=("${queue[@]:1}")
        start "$next"
    else
        wait -n -p ended "${running[@]}" || true
        mapfile -t running < <(printf '%s\n' "${running[@]}" | grep -vx "$ended")
        judge "${number_of[ended]}"
    fi
done
end_kernels
exit "$failed"
