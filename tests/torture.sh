#!/usr/bin/env bash
# The long form of the tests that break things, and one table of what was tried.
#
#   SEED=N tests/torture.sh
set -euo pipefail
cd "$(dirname "$0")/.."

seed=${SEED:-1}
tally=$(mktemp)
trap 'rm -f "$tally"' EXIT

lost=0
run() {
    local filter=$1
    shift
    env "$@" LOVOL_TALLY="$tally" cargo test --locked --quiet --test lovol -- "$filter" || lost=1
}

run faults_kill LOVOL_FAULTS=all LOVOL_FAULTS_SEED="$seed"
run cuts:: LOVOL_CUTS="${CUTS:-500}" LOVOL_SEED="$seed"
run databases:: LOVOL_DATABASE_SNAPSHOTS="${SNAPSHOTS:-50}"
run groups:: LOVOL_GROUPS="${GROUPS_TAKEN:-200}"
cases=${CASES:-1000000}
run parsers:: PROPTEST_CASES="$cases"
parsers=$(cargo test --locked --quiet --test lovol -- parsers:: --list | grep -c ': test$')
printf '%d\tinputs to parsers\n' "$((parsers * cases))" >> "$tally"

printf '\nseed %s\n%8s  %8s  %8s  %s\n' "$seed" tried survived lost what
# A test that loses a case fails at once, and its line is missing here.
sort -t "$(printf '\t')" -k 2 "$tally" | awk -F '\t' '
    { cases[$2] += $1; all += $1 }
    END {
        for (what in cases) printf "%8d  %8d  %8d  %s\n", cases[what], cases[what], 0, what | "sort -k 4"
        close("sort -k 4")
        printf "%8d  %8d  %8d  in all\n", all, all, 0
    }'
[ "$lost" = 0 ] || { echo "torture: something was lost, see above" >&2; exit 1; }
