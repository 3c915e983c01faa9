#!/usr/bin/env bash
# Installs what lovol needs and this machine lacks, and nothing else.
#
#   tests/install-deps.sh build    to build lovol and run its demo
#   tests/install-deps.sh check    the same, and what the tests need
#   tests/install-deps.sh fuzz     to build lovol, and what fuzzing needs
#   tests/install-deps.sh boot     to build lovol and boot a Debian with it
#   tests/install-deps.sh package  to build lovol, its packages, and what looks at them
#   tests/install-deps.sh deny     what looks at the crates that lovol is built of
set -euo pipefail
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

fail() {
    printf 'install-deps: %s\n' "$1" >&2
    exit 1
}

# lacks COMMAND...: true if one of them is not there
lacks() {
    local command
    for command; do
        command -v "$command" >/dev/null || return 0
    done
    return 1
}

# lacks_file GLOB...: true if nothing matches any of them
lacks_file() {
    ! compgen -G "$1" >/dev/null && { shift; [ $# -eq 0 ] || lacks_file "$@"; }
}

# The loop device crate reads <linux/loop.h> with libclang, which brings its own stddef.h.
lacks_libclang() {
    lacks_file /usr/lib/clang/\*/include/stddef.h /usr/lib/llvm-\*/lib/clang/\*/include/stddef.h && return 0
    [ -z "${LIBCLANG_PATH:-}" ] || return 1
    lacks_file /usr/lib/llvm-\*/lib/libclang{,-\*}.so\* /usr/{lib,lib64,lib/\*-linux-gnu}/libclang{,-\*}.so\* \
        /usr/lib64/llvm\*/lib/libclang.so\*
}

# need APT-PACKAGE DNF-PACKAGE: to be installed by the manager at hand
missing=()
need() {
    case $manager in
        apt-get) missing+=("$1") ;;
        dnf) missing+=("$2") ;;
        *) missing+=("$1") ;;
    esac
}

needs_of_build() {
    ! lacks_libclang                        || need libclang-dev clang-devel
    ! lacks_file /usr/include/linux/loop.h  || need linux-libc-dev kernel-headers
    ! lacks_file /usr/include/stdio.h /usr/include/\*/stdio.h || need libc6-dev glibc-devel
    ! lacks mount losetup                   || need mount util-linux
    ! lacks blkid fsfreeze findmnt          || need util-linux util-linux
    ! lacks mkfs.xfs xfs_growfs xfs_admin   || need xfsprogs xfsprogs
    ! lacks mkfs.ext4 e2fsck tune2fs chattr || need e2fsprogs e2fsprogs
    ! lacks mkfs.btrfs btrfs btrfstune      || need btrfs-progs btrfs-progs
}

needs_of_check() {
    needs_of_build
    ! lacks fio        || need fio fio
    ! lacks jq         || need jq jq
    ! lacks getfattr   || need attr attr
    ! lacks strace     || need strace strace
    ! lacks perl       || need perl perl
    ! lacks sqlite3    || need sqlite3 sqlite
    ! lacks mkfs.vfat  || need dosfstools dosfstools
    ! lacks mandoc     || need mandoc mandoc
    ! lacks man        || need man-db man-db
    ! lacks systemd-analyze || need systemd systemd
    ! lacks restic     || need restic restic
    ! lacks zsh        || need zsh zsh
    ! lacks fish       || need fish fish
    ! lacks shellcheck || need shellcheck ShellCheck
    ! lacks dmsetup    || need dmsetup device-mapper
    needs_of_kernel
}

# A kernel as a program, for `make check-6.1`: Debian and its kin have it, for this processor.
needs_of_kernel() {
    [ "$manager" = apt-get ] && [ "$(uname -m)" = x86_64 ] || return 0
    ! lacks linux.uml || need user-mode-linux -
    ! lacks modprobe  || need kmod -
}

needs_of_boot() {
    needs_of_build
    ! lacks debootstrap || need debootstrap debootstrap
    needs_of_kernel
}

needs_of_package() {
    needs_of_build
    ! lacks debootstrap || need debootstrap debootstrap
    ! lacks dpkg-deb    || need dpkg dpkg
    ! lacks lintian     || need lintian lintian
    ! lacks rpm         || need rpm rpm
    ! lacks strip       || need binutils binutils
}

needs_of_fuzz() {
    needs_of_build
    ! lacks c++ || need g++ gcc-c++
}

# as_root COMMAND...
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "installing ${missing[*]} needs root, and there is no sudo: run this as root"
    fi
}

install_missing() {
    case $manager in
        apt-get)
            as_root apt-get update -q
            as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get install -q -y --no-install-recommends "${missing[@]}"
            ;;
        dnf) as_root dnf install -y --setopt=install_weak_deps=False "${missing[@]}" ;;
        *) fail "neither apt-get nor dnf is here: install what Debian calls ${missing[*]} yourself" ;;
    esac
}

# cargo fmt and cargo clippy are not part of every Rust toolchain.
add_rust_components() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return
    command -v rustup >/dev/null || fail "cargo fmt and cargo clippy are missing: install rustfmt and clippy"
    rustup component add rustfmt clippy
}

# add_cargo_tool NAME VERSION: what is not part of any distribution.
add_cargo_tool() {
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    lacks "$1" || return 0
    cargo install --locked --version "$2" "$1"
}

manager=none
for candidate in apt-get dnf; do
    if command -v "$candidate" >/dev/null; then
        manager=$candidate
        break
    fi
done

case ${1:-} in
    build) needs_of_build ;;
    check) needs_of_check ;;
    fuzz) needs_of_fuzz ;;
    boot) needs_of_boot ;;
    package) needs_of_package ;;
    deny) ;;
    *) fail "usage: install-deps.sh build|check|fuzz|boot|package|deny" ;;
esac

if [ ${#missing[@]} -gt 0 ]; then
    printf 'install-deps: installing %s\n' "${missing[*]}"
    install_missing
fi
case $1 in
    check) add_rust_components ;;
    fuzz) add_cargo_tool cargo-fuzz '^0.13' ;;
    package)
        add_cargo_tool cargo-deb '^3.8'
        add_cargo_tool cargo-generate-rpm '^0.21'
        ;;
    deny) add_cargo_tool cargo-deny '^0.20' ;;
esac
