#!/usr/bin/env bash
# The packages: well made, installed in a clean Debian, used there, and removed again.
#
#   tests/package.sh DEB RPM
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin

# In a mount namespace of its own: whatever is left mounted goes with it.
[ "${LOVOL_PACKAGE_NAMESPACE:-}" ] ||
    LOVOL_PACKAGE_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"

deb=$(realpath "$1")
rpm=$(realpath "$2")
dir=$(mktemp -d)
root=$dir/root
steps=0
trap clean_up EXIT

clean_up() {
    local mounted
    for mounted in $(awk -v dir="$dir/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | tac); do
        umount "$mounted" || umount --lazy "$mounted"
    done
    chattr -R -f -i "$root/var/lib" || true
    rm -rf --one-file-system "$dir"
}

step() {
    steps=$((steps + 1))
    printf 'package: %s\n' "$1"
}

# has FILE...: the list of files on stdin has all of these
has() {
    local files file
    files=$(cat)
    for file; do
        grep -qx -- "$file" <<<"$files" || { printf 'package: %s is missing\n' "$file" >&2; return 1; }
    done
}

# But for the volumes, and the packages that lie here.
nothing_is_left() {
    local left
    left=$(find "$root" -xdev -name '*lovol*' ! -path "$root/lovol.*" ! -path "$root/var/lib/lovol*" \
        ! -path "$root/var/log/*")
    [ -z "$left" ] || { printf 'package: left behind: %s\n' "$left" >&2; return 1; }
}

files=(/usr/bin/lovol /usr/sbin/mount.lovol /usr/share/man/man8/lovol-snapshot.8.gz
    /usr/share/man/man5/lovol.5.gz /usr/share/man/man8/mount.lovol.8.gz
    /usr/share/man/man8/lovol-prune.8.gz
    /usr/lib/systemd/system/lovol-prune.timer /usr/lib/systemd/system/lovol-prune.service
    /usr/lib/systemd/system/lovol-trim.timer /usr/lib/systemd/system/lovol-trim.service
    /usr/lib/systemd/system/lovol-watch.service /usr/lib/systemd/system/lovol-snapshot-daily@.timer
    /usr/lib/systemd/system/lovol-snapshot-weekly@.timer
    /usr/share/bash-completion/completions/lovol /usr/share/fish/vendor_completions.d/lovol.fish
    /usr/lib/systemd/system/lovol-provision.service /usr/lib/systemd/system/lovol-snapshot@.service
    /usr/lib/systemd/system/lovol-snapshot-hourly@.timer /usr/lib/systemd/system/lovol-check.service
    /usr/lib/tmpfiles.d/lovol.conf /usr/lib/udev/rules.d/59-lovol.rules)

step 'lintian has no error'
lintian --fail-on error "$deb"

step 'the rpm has what the deb has'
rpm -qpl "$rpm" | has "${files[@]/#*sbin\/mount.lovol//usr/bin/lovol}" \
    /usr/share/licenses/lovol/COPYING /usr/share/zsh/site-functions/_lovol
rpm -qp --scripts "$rpm" | grep -q 'ln -sf /usr/bin/lovol /usr/sbin/mount.lovol'
rpm -qp --scripts "$rpm" | grep -q 'systemctl stop'
rpm -qp --requires "$rpm" | has util-linux xfsprogs

step 'a clean Debian'
tests/debian-root.sh "$root" xfsprogs e2fsprogs systemd rpm
cp "$deb" "$root/lovol.deb"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs tmpfs "$root/run"

step 'installed'
chroot "$root" dpkg -i /lovol.deb
chroot "$root" dpkg -L lovol | has "${files[@]}"
chroot "$root" dpkg -L lovol | has /usr/share/doc/lovol/copyright \
    /usr/share/zsh/vendor-completions/_lovol
[ -z "$(find "$root/etc/systemd" -name 'lovol*')" ] || { echo 'package: something was enabled' >&2; exit 1; }

step 'used'
chroot "$root" bash -euxo pipefail -c '
    lovol --version
    lovol init --loop 1G --sparse | sed -n "s/^fstab line: *//p" >>/etc/fstab
    lovol create home 300M
    lovol fstab home /home >>/etc/fstab
    lovol provision
    mount /home
    echo then >/home/file
    lovol snapshot home@a
    mount -t lovol lovol:home@a /mnt
    grep then /mnt/file
    umount /mnt /home
    ln -s /usr/lib/systemd/system/lovol-check.service /etc/systemd/system/multi-user.target.wants/
    umount /var/lib/lovol'

step 'removed'
chroot "$root" dpkg -r lovol
chroot "$root" dpkg -P lovol
nothing_is_left

# Debian is not where it belongs, but the tool that installs it is the same.
step 'the rpm is installed, after the deb'
cp "$rpm" "$root/lovol.rpm"
chroot "$root" rpm --install --nodeps /lovol.rpm
chroot "$root" rpm --verify --nodeps lovol

step 'used, and what was there is there'
chroot "$root" bash -euxo pipefail -c '
    mount /var/lib/lovol
    mount /home
    grep then /home/file
    lovol snapshot home@b
    lovol umount /home
    umount /var/lib/lovol
    ln -s /usr/lib/systemd/system/lovol-trim.timer /etc/systemd/system/multi-user.target.wants/'

step 'removed'
chroot "$root" rpm --erase lovol
nothing_is_left
# What was in the volumes is still there.
chroot "$root" mount -o loop /var/lib/lovol.img /mnt
test -s "$root/mnt/volumes/home.img"
echo "$steps passed, 0 failed"
