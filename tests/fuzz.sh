#!/usr/bin/env bash
# Runs each fuzz target for a while; an input that fails stays in tests/fuzz/artifacts.
#
#   FUZZ_SECONDS=30 tests/fuzz.sh [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

seconds=${FUZZ_SECONDS:-30}
[ $# -gt 0 ] || set -- tests/fuzz/targets/*.rs

log=$(mktemp)
trap 'rm -f "$log"' EXIT

for target; do
    target=$(basename "$target" .rs)
    # What it finds goes to the first directory, so that the seeds stay as they are.
    corpus=tests/fuzz/corpus/$target
    mkdir -p "$corpus"
    # Coverage needs no nightly toolchain; only the sanitizers do, and there is no unsafe to watch.
    cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none "$target" "$corpus" \
        "tests/seeds/$target" -- -max_total_time="$seconds" -print_final_stats=1 \
        > "$log" 2>&1 || { cat "$log" >&2; exit 1; }
    tried=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    printf '%12d inputs to %s\n' "$tried" "$target"
    [ -z "${LOVOL_TALLY:-}" ] \
        || printf '%s\t%d\tfuzzed inputs\n' tried "$tried" survived "$tried" >> "$LOVOL_TALLY"
done
