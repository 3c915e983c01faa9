#!/bin/bash
# What is done in each boot of tests/boot.sh, by a unit; its last line says how it went.
set -eEuo pipefail
exec >/dev/tty1 2>&1 </dev/null
export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin

boot=$(($(cat /boot-test/count 2>/dev/null || echo 0) + 1))
echo "$boot" >/boot-test/count
trap 'give_up "$LINENO: $BASH_COMMAND"' ERR

give_up() {
    trap - ERR
    set +e
    echo "boot $boot: line $1"
    systemctl --failed --no-legend
    journalctl --boot --no-pager --lines=40 --unit='lovol-*' --unit=home.mount --unit=srv.mount
    systemctl poweroff
    exit 1
}

# until_true SECONDS COMMAND...
until_true() {
    local left=$1
    shift
    until "$@"; do
        ((left -= 1)) || return 1
        sleep 1
    done
}

nothing_has_failed() {
    [ -z "$(systemctl --failed --no-legend)" ]
}

# What a newcomer types, from a code block of README: what follows a prompt, or each line.
commands_of() {
    if grep -q '^# ' "/boot-test/README-$1"; then
        sed -n 's/^# //p' "/boot-test/README-$1"
    else
        cat "/boot-test/README-$1"
    fi
}

follow_readme() {
    lovol init --loop 8G --sparse | sed -n 's/^fstab line: *//p' >>/etc/fstab
    lovol create home 50G
    lovol create golden 1G
    mkdir -p /mnt/golden
    lovol mount golden /mnt/golden
    echo seed >/mnt/golden/seed
    lovol snapshot golden@v3
    umount /mnt/golden

    bash -euxc "$(commands_of 1)"
    mountpoint /home
    tail -n 1 /etc/fstab | diff - <(grep '^/' /boot-test/README-1)

    sed -i '/volumes/d' /etc/fstab
    grep '^/' /boot-test/README-2 >>/etc/fstab
    bash -euxc "$(commands_of 2)"
    grep seed /srv/seed
    bash -euxc "$(commands_of 3)"

    # What the next boot has to make again.
    umount /srv
    lovol delete srv
    lovol purge -y srv
    # A timer that fires while somebody looks.
    mkdir -p /etc/systemd/system/lovol-snapshot-hourly@.timer.d
    printf '[Timer]\nOnActiveSec=2\n' >/etc/systemd/system/lovol-snapshot-hourly@.timer.d/soon.conf
    date >/home/file
}

all_is_there() {
    local dir
    for dir in /var/lib/lovol /home /srv; do
        mountpoint "$dir"
    done
    grep seed /srv/seed
    test -s /home/file
    # Writing to what is frozen would wait for ever.
    timeout 20 touch /home/new /srv/new /var/lib/lovol/volumes
    timeout 20 sync
    lovol check
    nothing_has_failed
}

has_a_snapshot_by_the_timer() {
    lovol list -a | grep 'home@2'
}

# No link by UUID or label may lead to a volume or a snapshot.
udev_leaves_them_alone() {
    local device link own
    device=$(lovol attach golden@v3)
    udevadm settle
    own=$(losetup --noheadings --raw --output NAME,BACK-FILE | sed -n 's| /var/lib/lovol/.*||p')
    grep -x "$device" <<<"$own"
    for link in /dev/disk/by-uuid/* /dev/disk/by-label/*; do
        ! grep -x "$(readlink -f "$link")" <<<"$own" || return 1
    done
    udevadm info "$device" | grep UDISKS_IGNORE=1
    lovol detach golden@v3
}

# Links are only kept from what is lovol's: not from a partition in somebody's image, which has no
# file of its own.
udev_serves_others() {
    local device
    truncate -s 16M /root/foreign
    sfdisk --quiet --label gpt /root/foreign <<<,
    device=$(losetup --find --show --partscan /root/foreign)
    udevadm settle
    readlink -f /dev/disk/by-partuuid/* | grep -x "${device}p1"
    losetup --detach "$device"
}

# The state of the freeze that is under way, if one is: 2 is FROZEN.
state_of_freeze() {
    local byte=
    { read -r -n 1 byte </run/lovol/freeze-*; } 2>/dev/null || true
    [ "$byte" = $'\2' ]
}

# Lets lovol stop in the freeze of a snapshot that its unit takes.  Its pid is in the marker's name.
stop_in_freeze() {
    local own=/run/systemd/system/lovol-snapshot@home.service.d marker
    mkdir -p "$own"
    printf '[Service]\nEnvironment=LD_PRELOAD=/boot-test/stop-in-freeze.so\n' >"$own/stop.conf"
    systemctl daemon-reload
    systemctl start --no-block lovol-snapshot@home.service
    until_true 60 state_of_freeze
    marker=$(echo /run/lovol/freeze-*)
    main=${marker#*freeze-}
    main=${main%-*}
}

is_over() {
    [ "$(systemctl show --property ActiveState --value lovol-snapshot@home.service)" != activating ]
}

# lovol is killed in its freeze, and systemd ends its unit: the guardian thaws all the same.
a_killed_snapshot_is_thawed() {
    local main
    stop_in_freeze
    kill -KILL "$main"
    timeout 8 touch /home/after-the-kill
    until_true 10 is_over
    [ "$(systemctl show --property Result --value lovol-snapshot@home.service)" = signal ]
    ! state_of_freeze || return 1
    systemctl reset-failed lovol-snapshot@home.service
    lovol check
}

# What is asked for in one boot is done in the next, by fstab's line.
asks_to_be_rolled_back() {
    lovol snapshot home@asked
    date >/home/later
    lovol rollback --next-mount home@asked
    test -e /home/later
}

has_been_rolled_back() {
    test ! -e /home/later
    lovol list -a | grep 'home@before-rollback-'
}

case $boot in
    1) follow_readme ;;
    2)
        all_is_there
        until_true 60 has_a_snapshot_by_the_timer
        udev_leaves_them_alone
        udev_serves_others
        a_killed_snapshot_is_thawed
        asks_to_be_rolled_back
        nothing_has_failed
        ;;
    3)
        all_is_there
        has_been_rolled_back
        echo 'taking snapshots'
        while true; do
            dd if=/dev/urandom of=/home/data bs=1M count=4 conv=fsync status=none
            lovol snapshot home
        done
        ;;
    4) all_is_there ;;
esac
trap - ERR
echo 'all is well'
systemctl poweroff
