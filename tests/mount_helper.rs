//! `mount.lovol`, as mount(8), findmnt(8) and their like call it.

use std::path::Path;
use std::time::Duration;

use crate::support::{TestPool, ensure_unchanged, on_own_system, wait_until, write_fstab};

const SOON: Duration = Duration::from_secs(20);

/// Runs a command that fails with this exit code and says this on stderr.
#[track_caller]
fn fails(pool: &TestPool, code: i32, says: &str, command: &str) {
    let script = format!("set +e; said=$({command} 2>&1); echo $?; echo \"$said\"");
    let printed = pool.sh(&script);
    let (found, said) = printed.split_once('\n').unwrap_or((&printed, ""));
    assert_eq!(found, code.to_string(), "{command}: {said}");
    assert!(said.contains(says), "{command} says {said:?}, not {says:?}");
}

/// What a mount has.
#[track_caller]
fn options(pool: &TestPool, dir: &str) -> String {
    pool.sh(&format!("findmnt -no OPTIONS $TEMP/{dir}"))
}

#[track_caller]
fn nothing_is_left(pool: &TestPool) {
    assert_eq!(pool.loops(), []);
    let mounts = pool.mounts().into_iter().map(|mount| mount.dir);
    let own = [pool.temp().join("changes"), Path::new("/etc/fstab").into()];
    assert_eq!(
        mounts.filter(|dir| !own.contains(dir)).collect::<Vec<_>>(),
        Vec::<std::path::PathBuf>::new()
    );
}

const LINES: &str = "\
$POOL/volumes/home.img $TEMP/home lovol defaults,noatime,nofail,x-lovol.size=300M 0 0
lovol:srv              $TEMP/srv  lovol defaults,_netdev 0 0
$POOL/volumes/tmp.img  $TEMP/tmp  lovol noauto,user,x-systemd.automount 0 0
";

fn three_volumes(pool: &TestPool) {
    pool.sh(
        "lovol create home 300M; lovol create srv 64M --fs ext4; lovol create tmp 1M --fs none",
    );
    pool.sh("mkdir home srv tmp");
    write_fstab(pool, LINES);
}

#[test]
fn mount_all_twice_mounts_once() {
    on_own_system(|pool| {
        three_volumes(pool);
        assert_eq!(pool.sh("mount -a 2>&1"), "");
        let mounts = pool.mounts();
        assert_eq!(pool.sh("mount -a 2>&1"), "");
        assert_eq!(pool.mounts(), mounts);
        assert!(options(pool, "home").contains("noatime"));
        assert_eq!(pool.loops().len(), 2);
        // Nothing but umount(8) is needed to take it back.
        pool.sh("umount $TEMP/home $TEMP/srv");
        nothing_is_left(pool);
    });
}

#[test]
fn beside_a_virtual_machine_it_mounts_nothing() {
    on_own_system(|pool| {
        three_volumes(pool);
        let device = pool.sh("lovol attach srv");
        let image = pool.image("home");
        let machines = [image.as_path(), Path::new(&device)]
            .map(|file| std::fs::File::options().write(true).open(file).unwrap());
        for dir in ["home", "srv"] {
            let says = format!("volume {dir} is in use: lovol-");
            fails(pool, 32, &says, &format!("mount $TEMP/{dir}"));
            fails(pool, 32, &says, &format!("mount -o fsck $TEMP/{dir}"));
        }
        drop(machines);
        pool.sh("mount -a; umount $TEMP/home $TEMP/srv; lovol detach srv");
        nothing_is_left(pool);
    });
}

#[test]
fn umount_all_of_a_type_leaves_no_device() {
    on_own_system(|pool| {
        three_volumes(pool);
        pool.sh("mount -a");
        // The pool's own filesystem is an XFS as well; the machine's root may be any of them.
        pool.sh("umount -a -t ext4 -O noatime || true; umount -a -t xfs,ext4 || true");
        let left = pool.sh("findmnt -rno TARGET | grep -c lovol-test || true");
        assert_eq!(
            left,
            "1",
            "only the directory of changes: {}",
            pool.sh("findmnt -rno TARGET")
        );
        nothing_is_left(pool);
    });
}

#[test]
fn remount_changes_what_is_mounted() {
    on_own_system(|pool| {
        three_volumes(pool);
        pool.sh("mount -a");
        for dir in ["home", "srv"] {
            pool.sh(&format!("mount -o remount,ro $TEMP/{dir}"));
            assert!(
                options(pool, dir).starts_with("ro,"),
                "{}",
                options(pool, dir)
            );
            fails(pool, 1, "Read-only", &format!("touch $TEMP/{dir}/file"));
            pool.sh(&format!(
                "mount -o remount,rw $TEMP/{dir}; touch $TEMP/{dir}/file"
            ));
        }
        // Words from fstab are kept, as mount(8) merges them.
        assert!(options(pool, "home").contains("noatime"));
        fails(
            pool,
            32,
            "is not mounted there",
            "mount -t lovol -o remount,ro lovol:home $TEMP/tmp",
        );
    });
}

#[test]
fn the_tools_that_read_fstab_are_content() {
    on_own_system(|pool| {
        three_volumes(pool);
        pool.sh("mount -a");
        let trimmed = pool.sh("fstrim --fstab --verbose 2>&1");
        assert!(trimmed.contains("/home: "), "{trimmed}");
        let trimmed = pool.sh("fstrim --listed-in /proc/self/mountinfo --verbose 2>&1");
        assert!(trimmed.contains("/srv: "), "{trimmed}");
        assert_eq!(pool.sh("fsck -A -N -T 2>&1"), "");
        // What cannot be right is in the manual page: no tool knows the type.
        let said = pool.sh("findmnt --verify 2>&1 || true");
        let wrong: Vec<&str> = said.lines().filter(|line| line.contains("[E]")).collect();
        assert!(
            wrong
                .iter()
                .all(|line| line.contains("does not match with on-disk")),
            "{said}"
        );
    });
}

#[test]
fn a_snapshot_is_viewed_by_each_of_its_names() {
    on_own_system(|pool| {
        pool.mounted("home", "64M --fs ext4");
        pool.sh("echo then >home/file; lovol snapshot home@a; echo now >home/file; mkdir view");
        for spec in [
            "lovol:home@a",
            "$POOL/snapshots/home/a.img",
            "lovol:home -o snap=a",
            "$POOL/volumes/home.img -o snap=a",
        ] {
            pool.sh(&format!("mount -t lovol {spec} $TEMP/view"));
            assert_eq!(pool.sh("cat view/file"), "then", "{spec}");
            assert!(options(pool, "view").starts_with("ro,"), "{spec}");
            fails(
                pool,
                1,
                "",
                "mount -o remount,rw -t lovol lovol:home@a $TEMP/view; touch view/file",
            );
            pool.sh("umount view");
        }
        fails(
            pool,
            1,
            "snap=b",
            "mount -t lovol -o snap=b lovol:home@a $TEMP/view",
        );
        fails(
            pool,
            1,
            "fsck is for a volume",
            "mount -t lovol -o fsck lovol:home@a $TEMP/view",
        );
    });
}

#[test]
fn own_words_are_heeded_and_others_dropped() {
    on_own_system(|pool| {
        pool.sh("lovol create home 64M --fs ext4; mkdir home");
        let words = "nodio,noatime,nofail,user,_netdev,x-systemd.automount,X-a=1,commit=77";
        pool.sh(&format!("mount -t lovol -o {words} lovol:home $TEMP/home"));
        let found = options(pool, "home");
        for word in ["noatime", "nosuid", "commit=77"] {
            assert!(found.contains(word), "{found}");
        }
        let device = pool.sh("findmnt -no SOURCE $TEMP/home");
        assert_eq!(pool.sh(&format!("losetup -nO DIO {device}")).trim(), "0");
        fails(
            pool,
            32,
            "nonsense",
            "umount home; mount -t lovol -o nonsense=1 lovol:home $TEMP/home",
        );
        nothing_is_left(pool);
    });
}

#[test]
fn what_fsck_finds_is_not_mounted() {
    on_own_system(|pool| {
        pool.sh("mkdir dir");
        for (name, make) in [
            ("xfs", "300M"),
            ("ext4", "64M --fs ext4"),
            ("btrfs", "128M --fs btrfs"),
        ] {
            pool.sh(&format!(
                "lovol create {name} {make}; mount -t lovol -o fsck lovol:{name} $TEMP/dir; touch dir/file; umount dir"
            ));
        }
        pool.sh("debugfs -w -R 'clri <2>' $POOL/volumes/ext4.img; xfs_db -x -c 'inode 128' -c 'write core.nlinkv2 9' $POOL/volumes/xfs.img");
        for (name, says) in [("ext4", "'e2fsck"), ("xfs", "xfs_repair")] {
            let mount = format!("mount -t lovol -o fsck lovol:{name} $TEMP/dir");
            fails(pool, 32, says, &mount);
        }
        nothing_is_left(pool);
    });
}

#[test]
fn fake_does_all_but_the_mount() {
    on_own_system(|pool| {
        pool.sh("lovol create home 64M --fs ext4; mkdir home");
        ensure_unchanged(pool, || {
            pool.sh("mount -f -t lovol lovol:home $TEMP/home");
            pool.sh("mount.lovol lovol:home $TEMP/home -sfnv -o rw,noatime -t lovol");
            fails(
                pool,
                32,
                "no volume named other",
                "mount -f -t lovol lovol:other $TEMP/home",
            );
            fails(
                pool,
                32,
                "no directory",
                "mount.lovol lovol:home $TEMP/none -f",
            );
        });
    });
}

#[test]
fn it_mounts_in_another_namespace() {
    on_own_system(|pool| {
        pool.sh("lovol create home 64M --fs ext4; mkdir home");
        let other = pool.sh("unshare --mount sleep 60 > /dev/null 2>&1 & echo $!");
        let unshared = format!(
            "[ $(readlink /proc/{other}/ns/mnt) != $(readlink /proc/self/ns/mnt) ] && echo yes || true"
        );
        wait_until("it has a namespace of its own", SOON, || {
            pool.sh(&unshared) == "yes"
        });

        pool.sh(&format!(
            "mount -N {other} -t lovol -o noatime,ro lovol:home $TEMP/home"
        ));
        let seen = "findmnt -rno FSTYPE,OPTIONS $TEMP/home || true";
        assert_eq!(pool.sh(seen), "");
        let seen_there = format!("nsenter --mount=/proc/{other}/ns/mnt {seen}");
        assert_eq!(pool.sh(&seen_there), "ext4 ro,noatime");
        fails(
            pool,
            1,
            "not supported",
            &format!("mount -N {other} -o remount,ro -t lovol lovol:home $TEMP/home"),
        );

        pool.sh(&format!("kill {other}"));
        wait_until("its mount has gone with it", SOON, || {
            pool.loops().is_empty()
        });
        nothing_is_left(pool);
    });
}

#[test]
fn exit_codes_are_those_of_mount() {
    on_own_system(|pool| {
        pool.sh("lovol create home 64M --fs ext4; mkdir home");
        ensure_unchanged(pool, || {
            for (code, says, command) in [
                (1, "DIR", "mount.lovol lovol:home"),
                (
                    1,
                    "unexpected argument",
                    "mount.lovol lovol:home $TEMP/home --pool x",
                ),
                (1, "lovol:NAME", "mount.lovol home $TEMP/home"),
                (
                    32,
                    "cannot enter the mount namespace",
                    "mount.lovol lovol:home $TEMP/home -N /proc/self/ns/net",
                ),
                (
                    1,
                    "rights of another",
                    "setpriv --ruid 65534 mount.lovol lovol:home $TEMP/home",
                ),
                (
                    1,
                    "root",
                    "setpriv --reuid 65534 --clear-groups mount.lovol lovol:home $TEMP/home",
                ),
                (
                    32,
                    "no volume named other",
                    "mount -t lovol lovol:other $TEMP/home",
                ),
                (
                    32,
                    "no pool",
                    "mount -t lovol /nowhere/volumes/home.img $TEMP/home",
                ),
                (
                    32,
                    "no volume named other",
                    "mount -t lovol $POOL/volumes/other.img $TEMP/home",
                ),
                (0, "mount.lovol", "mount.lovol --version"),
                (0, "SPEC", "mount.lovol -h"),
            ] {
                fails(pool, code, says, command);
            }
        });
        // Only under that very name.
        fails(
            pool,
            2,
            "unrecognized",
            "ln -s $(command -v lovol) xmount.lovol; ./xmount.lovol lovol:home $TEMP/home",
        );
    });
}

#[test]
fn a_symlink_in_the_pool_is_not_followed() {
    on_own_system(|pool| {
        pool.sh(
            "lovol create home 64M --fs ext4; mkdir home; mv $POOL/volumes/home.img $POOL/away.img",
        );
        pool.sh("ln -s ../away.img $POOL/volumes/home.img");
        fails(
            pool,
            32,
            "home.img",
            "mount.lovol $POOL/volumes/home.img $TEMP/home",
        );
        nothing_is_left(pool);
    });
}
