#!/usr/bin/env bash
# Becomes a user-mode Linux: a kernel that is a process of this machine.
#
#   tests/user-mode-linux.sh DIR WORD...    DIR is for files that it needs; the rest is for the kernel
set -euo pipefail

dir=$1
shift
cc -shared -fPIC -O2 -o "$dir/user-mode-linux.so" "${BASH_SOURCE[0]%.sh}.c" -ldl
LD_PRELOAD=$dir/user-mode-linux.so exec linux.uml "$@"
