//! Every example of every manual page and help text is run as it stands there, on a terminal.

use crate::generated::{commands, page};
use crate::support::{TestPool, on_own_machine};

/// What the examples speak of: mounted volumes, snapshots, and others.
const MACHINE: &str = "
    mkdir -p /mnt/old /srv/db /srv/var $POOL/work; cd $POOL/work
    lovol create home 64M --fs ext4; lovol mount home /home
    for name in db var; do lovol create $name 16M --fs ext4; lovol mount $name /srv/$name; done
    for name in trial vm; do lovol create $name 1M --fs none; done
    for name in before before-upgrade monday tuesday friday 20261121T101500Z; do
        lovol snapshot home@$name
    done
    echo '/var/lib/lovol/volumes/new.img /srv/new lovol x-lovol.size=16M,x-lovol.fs=ext4,X-mount.mkdir' >volumes
    cat volumes >/etc/fstab
    cp --reflink=always $POOL/var/lib/lovol/volumes/vm.img a.img";

const EMPTY: &str = "
    mkdir -p $POOL/work
    truncate -s 16M /srv/old.img; mkfs.ext4 -q /srv/old.img
    truncate -s 16M /mnt/vm.img; mkfs.ext4 -q /mnt/vm.img";

/// What has to be done first for a line that does not follow from the ones before.
const BEFORE: &[(&str, &str)] = &[
    (
        "lovol clone home@before-upgrade trial",
        "lovol delete trial",
    ),
    ("lovol delete -r home", "lovol umount home"),
    (
        "lovol delete --now trial",
        "lovol create trial 1M --fs none",
    ),
    ("lovol detach vm", "lovol attach vm"),
    (
        "lovol restore home@before:alice/letter",
        "mkdir /home/alice; echo then >/home/alice/letter; lovol delete home@before; lovol snapshot home@before; rm /home/alice/letter",
    ),
    ("lovol get home keep", "lovol set home keep=24h7d"),
    ("lovol init /srv/pool", "mkdir /srv/pool"),
    ("lovol init --loop 100G", "rm -r /var/lib/lovol"),
    ("lovol mount home /home", "lovol umount home || true"),
    (
        "lovol mount home /home -o noatime,nodev",
        "lovol umount home",
    ),
    (
        "lovol provision --mount",
        "lovol delete new; lovol purge -y new",
    ),
    (
        "lovol provision - <volumes",
        "umount /srv/new; lovol delete new; lovol purge -y new",
    ),
    (
        "lovol purge home",
        "lovol umount home; lovol delete -r home",
    ),
    (
        "lovol purge home@20261121T101500Z",
        "lovol create home 1M --fs none; lovol delete home",
    ),
    ("lovol purge --all -y", "lovol delete trial"),
    (
        "lovol release home@before-upgrade",
        "lovol hold home@before-upgrade",
    ),
    (
        "lovol release home@before-upgrade --tag backup",
        "lovol hold home@before-upgrade --tag backup",
    ),
    // Not every root may grow a mounted ext4.
    ("lovol resize home 2G", "lovol umount home"),
    (
        "lovol rename home@20261121T101500Z home@before-upgrade",
        "lovol delete home@before-upgrade",
    ),
    (
        "lovol rename home@20261121T101500Z before-upgrade",
        "lovol rename home@before-upgrade 20261121T101500Z",
    ),
    (
        "lovol snapshot home@before-upgrade",
        "lovol delete home@before-upgrade",
    ),
    (
        "lovol umount home /mnt/old",
        "lovol mount home /home; lovol mount home@before /mnt/old",
    ),
    (
        "lovol undelete home",
        "lovol umount home; lovol delete -r home",
    ),
    (
        "lovol undelete home db",
        "lovol umount db; lovol delete -r home db",
    ),
    (
        "lovol undelete home@20261121T101500Z --as home2",
        "lovol delete -r home",
    ),
    (
        "mount -t lovol /var/lib/lovol/volumes/home.img /home",
        "lovol umount home",
    ),
    ("mount -o remount,ro /home", "cd /"),
];

/// The command without what is said of it beside it.
fn command(line: &str) -> &str {
    line.split_once("  ").map_or(line, |(command, _)| command)
}

/// What is only known where it runs: the number of a device, the time of a deletion.
fn filled_in(line: &str) -> String {
    let line = line.replace("/dev/loop0", "$(lovol attach vm)");
    // There is not so much in them.
    let line = line.replace("--plan-free 20G", "--plan-free 4K");
    let is_of_trash = line.starts_with("lovol purge") || line.starts_with("lovol undelete");
    if is_of_trash {
        let id = "$(lovol list --trash -J | jq -r '.trash[0].id')";
        return line.replace("home@20261121T101500Z", id);
    }
    line
}

/// As a person types it, who answers yes.  What is typed comes from a pipe that stays open: `script`
/// waits for seconds when it has come to the end of its input.
fn run(machine: &TestPool, line: &str) {
    let before = BEFORE
        .iter()
        .find(|(of, _)| *of == line)
        .map_or("", |(_, before)| before);
    machine.sh(&format!(
        "unset LOVOL_POOL; export MANPAGER=cat; cd $POOL/work; {before}
        cat >line <<'END'\nset -euo pipefail\n{}\nEND\n\
        rm -f keys; mkfifo keys; exec 3<>keys; echo y >&3
        script -q -e -c 'bash line' /dev/null <&3 >&2",
        filled_in(line)
    ));
}

fn examples_work(which: impl Fn(&str) -> bool) {
    for verb in commands() {
        let page = page::name(&verb);
        if !which(&page) {
            continue;
        }
        on_own_machine(|machine| {
            let is_first = ["lovol", "lovol-create", "lovol-init"].contains(&page.as_str());
            machine.sh(&format!(
                "unset LOVOL_POOL; {}",
                if is_first { EMPTY } else { MACHINE }
            ));
            for line in page::example_lines(&verb) {
                run(machine, command(&line));
            }
            machine.sh("tac /proc/self/mountinfo | awk '{ print $5 }' | grep -E '^/(home|srv|mnt|var/lib)/' | xargs -r umount || true; unset LOVOL_POOL; lovol umount home || true");
        });
    }
}

#[test]
fn those_of_the_first_verbs_work() {
    examples_work(|page| page < "lovol-list");
}

#[test]
fn those_of_the_other_verbs_work() {
    examples_work(|page| page >= "lovol-list");
}

/// Lines of fstab describe what there is or is to be made; the others are commands.
#[test]
fn those_of_the_file_formats_work() {
    on_own_machine(|machine| {
        machine.sh(&format!("unset LOVOL_POOL; {EMPTY}"));
        machine.sh("unset LOVOL_POOL; lovol create home 64M --fs ext4; lovol create golden 16M --fs ext4; lovol snapshot golden@v3");
        let lines = page::lines_of_examples("lovol.5");
        let (entries, commands): (Vec<String>, Vec<String>) =
            lines.into_iter().partition(|line| line.starts_with('/'));
        let file = machine.path().join("work/fstab");
        std::fs::write(file, entries.join("\n") + "\n").unwrap();
        let planned = machine.sh("unset LOVOL_POOL; lovol provision -n $POOL/work/fstab");
        for image in ["home.img", "srv.img", "old.img"] {
            assert!(planned.contains(image), "{planned}");
        }
        assert_eq!(commands.len(), 2);
        for command in commands {
            run(machine, &command);
        }
    });
}
