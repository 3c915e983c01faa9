#!/usr/bin/env bash
# The long form of the tests that break things, and one table of what was tried.
#
#   tests/torture.sh [PART...]     all parts, or these: faults cuts databases groups
#                                  crowd tracking space parsers disks
#
# SEED=N makes other choices.  Each part has its own measure: FAULTS (cases of each verb on each
# guest, or all), CUTS, SNAPSHOTS, GROUPS_TAKEN, CROWD (seconds), TRACKED, HISTORIES, CASES, REPLAYS
# and MOMENTS (disks: on Linux 6.1, which has the device mapper, as a process of this machine).
# With TALLY=FILE what is tried is added to that file, so that the parts can run one after
# another and still give one table.
set -euo pipefail
cd "$(dirname "$0")/.."

seed=${SEED:-1}
if [ -z "${TALLY:-}" ]; then
    TALLY=$(mktemp)
    trap 'rm -f "$TALLY"' EXIT
fi
TALLY=$(realpath "$TALLY")

failed=0
run() {
    local filter=$1
    shift
    env "$@" LOVOL_TALLY="$TALLY" cargo test --locked --quiet --test lovol -- "$filter" || failed=1
}

# Too many to note each: a test that passes has survived all its inputs.
parsers() {
    local cases=${CASES:-1000000} output passed failures
    output=$(mktemp)
    run parsers:: PROPTEST_CASES="$cases" PROPTEST_RNG_SEED="$seed" > "$output"
    cat "$output"
    # Without such a line not even one has begun.
    read -r passed failures < <(sed -nE 's/^test result:.* ([0-9]+) passed; ([0-9]+) failed.*/\1 \2/p' "$output") ||
        { passed=1 failures=1 failed=1; }
    # One of them has no inputs but the seeds.
    passed=$((passed - 1))
    rm "$output"
    {
        printf 'tried\t%d\tinputs to parsers\n' "$(((passed + failures) * cases))"
        printf 'survived\t%d\tinputs to parsers\n' "$((passed * cases))"
    } >> "$TALLY"
}

# A log of writes played back to each of so many flushes, and a disk that fails at so many moments.
disks() {
    env LOVOL_TALLY="$TALLY" LOVOL_REPLAYS="${REPLAYS:-100}" LOVOL_MOMENTS="${MOMENTS:-20}" \
        LOVOL_SEED="$seed" LIMIT=7200 SHARE=2 tests/kernel-6.1.sh disk_cuts:: failing_disk:: || failed=1
}

part() {
    case $1 in
        faults) run faults:: LOVOL_FAULTS="${FAULTS:-all}" LOVOL_FAULTS_SEED="$seed" ;;
        cuts) run cuts:: LOVOL_CUTS="${CUTS:-500}" LOVOL_SEED="$seed" ;;
        databases) run databases:: LOVOL_DATABASE_SNAPSHOTS="${SNAPSHOTS:-50}" ;;
        groups) run groups::in_every LOVOL_GROUPS="${GROUPS_TAKEN:-200}" ;;
        crowd) run crowd:: LOVOL_CROWD_SECONDS="${CROWD:-300}" LOVOL_SEED="$seed" ;;
        tracking) run tracking:: LOVOL_TRACKED="${TRACKED:-100}" ;;
        space) run space::what_is_said LOVOL_HISTORIES="${HISTORIES:-300}" LOVOL_SEED="$seed" ;;
        parsers) parsers ;;
        disks) disks ;;
        *) echo "torture: there is no part $1" >&2; exit 2 ;;
    esac
}

[ $# -gt 0 ] || set -- faults cuts databases groups crowd tracking space parsers disks
for name; do
    part "$name"
done

# A line of the tally is "tried" or "survived", how many, and what.  What was tried and has not
# survived is lost, also if the test itself was killed.
printf '\nseed %s\n%8s  %8s  %8s  %s\n' "$seed" tried survived lost what
awk -F '\t' '
    function row(tried, survived, what) {
        return sprintf("%8d  %8d  %8d  %s", tried, survived, tried - survived, what)
    }
    { count[$1, $3] += $2; count[$1] += $2; seen[$3] }
    END {
        for (what in seen) print row(count["tried", what], count["survived", what], what) | "sort -k 4"
        close("sort -k 4")
        print row(count["tried"], count["survived"], "in all")
    }' "$TALLY"
[ "$failed" = 0 ] || { echo "torture: a test has failed, see above" >&2; exit 1; }
