//! `lovol rollback`: what a volume was is never lost.

use crate::support::{TestPool, Writer, ensure_unchanged, on_own_system, write_fstab};

/// `home` with a file `state` that says `old` in home@a, `newer` in home@b, and `live` now.
#[track_caller]
fn pool(fs: &str) -> TestPool {
    let pool = TestPool::new();
    pool.mounted("home", fs);
    pool.sh("echo old > home/state; lovol snapshot home@a
         echo newer > home/state; lovol snapshot home@b
         echo live > home/state; lovol set home user:who=me");
    pool
}

#[track_caller]
fn rolls_back(fs: &str) {
    let pool = pool(fs);
    let used = "--remount unmounts it";
    ensure_unchanged(&pool, || pool.lovol("rollback home@a").fails(1, used));
    pool.sh("umount home");
    let before = pool.lovol("show home -J").json()["volumes"][0].clone();
    let planned = ensure_unchanged(&pool, || pool.lovol("rollback home@a -n").ok_any());
    assert!(
        planned.starts_with("would clone snapshots/home/a.img to volumes/home.img"),
        "{planned}"
    );

    let kept = pool.lovol("rollback home@a").ok_any();
    let kept = kept.trim();
    assert!(kept.starts_with("home@before-rollback-20"), "{kept}");
    pool.sh("lovol mount home home");
    assert_eq!(
        pool.sh("cat home/state; stat -c %a $POOL/volumes/home.img"),
        "old\n600"
    );
    // All else of it stays.
    let after = pool.lovol("show home -J").json()["volumes"][0].clone();
    for key in ["name", "image", "size", "properties", "fs_uuid"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    // So do the newer snapshot, and what it was.
    pool.sh("mkdir v w; lovol mount home@b v; lovol mount KEPT w"
        .replace("KEPT", kept)
        .as_str());
    assert_eq!(pool.sh("cat v/state w/state; umount v w"), "newer\nlive");
    let shown = pool.lovol("show -J").arg(kept).json()["snapshots"][0].clone();
    assert_eq!(shown["consistency"], "clean");
    assert_eq!(shown["properties"]["rolled-back-to"], "a");
    pool.lovol("check").ok("");
    pool.sh("rm $POOL/index.json; lovol check --repair; lovol check");

    // There, and back.
    for state in ["live", "old"] {
        pool.sh("umount home");
        pool.lovol("rollback --undo home").ok_any();
        pool.sh("lovol mount home home");
        assert_eq!(pool.sh("cat home/state"), state);
    }
    pool.lovol("check").ok("");
}

#[test]
fn xfs_rolls_back() {
    rolls_back("300M");
}

#[test]
fn ext4_rolls_back() {
    rolls_back("20M --fs ext4");
}

#[test]
fn btrfs_rolls_back() {
    rolls_back("110M --fs btrfs");
}

#[test]
fn what_cannot_be_rolled_back_is_refused() {
    let pool = pool("20M --fs ext4");
    ensure_unchanged(&pool, || {
        for (words, code, says) in [
            ("rollback home", 2, "to which snapshot of home?"),
            ("rollback home@none", 1, "no snapshot named home@none"),
            ("rollback --undo home", 1, "no rollback of home"),
            ("rollback --undo home@a", 2, "--undo knows where"),
            (
                "rollback --remount --next-mount home@a",
                2,
                "cannot be used with",
            ),
        ] {
            pool.lovol(words).fails(code, says);
        }
    });
    pool.sh("umount home");
    // What cannot be mounted is not put in the volume's place.
    pool.sh("chmod 600 $POOL/snapshots/home/a.img
             dd if=/dev/zero of=$POOL/snapshots/home/a.img bs=64K count=1 conv=notrunc status=none
             chmod 400 $POOL/snapshots/home/a.img");
    ensure_unchanged(&pool, || {
        pool.lovol("rollback home@a").fails(1, "cannot mount")
    });
    pool.sh("lovol mount home home");
    assert_eq!(pool.sh("cat home/state"), "live");
}

#[test]
fn in_use_it_is_mounted_again_as_it_was_or_nothing_happens() {
    let pool = TestPool::new();
    pool.dir("home");
    pool.dir("second");
    pool.sh("lovol create home 300M; lovol mount home home -o noatime,nodev; lovol mount home second -o noatime
             echo old > home/state; lovol snapshot home@a; echo live > home/state");
    // Somebody works in it.
    let writer = Writer::start(pool.dir("home"));
    let mounts = pool.sh("findmnt -rno TARGET,OPTIONS | grep $TEMP | sort");
    pool.lovol("rollback --remount home@a")
        .fails(1, "is in use");
    assert_eq!(
        pool.sh("findmnt -rno TARGET,OPTIONS | grep $TEMP | sort"),
        mounts
    );
    assert_eq!(
        pool.sh("cat second/state; lovol list -a home --raw --no-header | wc -l"),
        "live\n2"
    );
    drop(writer);
    let planned = pool.lovol("rollback --remount home@a -n").ok_any();
    assert_eq!(planned.matches("would unmount").count(), 2, "{planned}");
    pool.lovol("rollback --remount home@a").ok_any();
    assert_eq!(
        pool.sh("findmnt -rno TARGET,OPTIONS | grep $TEMP | sort"),
        mounts
    );
    assert_eq!(pool.sh("cat home/state second/state"), "old\nold");
    pool.lovol("rollback --undo --remount home").ok_any();
    assert_eq!(pool.sh("cat home/state"), "live");
    pool.lovol("check").ok("");
}

#[test]
fn it_waits_for_the_next_mount() {
    on_own_system(|pool| {
        pool.mounted("home", "20M --fs ext4");
        pool.sh("echo old > home/state; lovol snapshot home@a; echo live > home/state");
        write_fstab(
            pool,
            "$POOL/volumes/home.img $TEMP/home lovol defaults 0 0\n",
        );
        pool.lovol("rollback --next-mount home@a -n")
            .ok("would set rollback-to=a of home\n");
        pool.lovol("rollback --next-mount home@a").ok("");
        pool.lovol("get home rollback-to").ok("a\n");
        for words in ["delete home@a", "rename home@a b"] {
            pool.lovol(words)
                .fails(1, "rolled back to it when it is next mounted");
        }
        // Where it is mounted already, nothing happens; nor by looking.
        let said =
            pool.sh("mkdir second; lovol mount home second 2>&1; umount second; mount -f home");
        assert!(said.contains("it is in use: that waits"), "{said}");
        let listed = pool.lovol("list --no-header -o notes").ok_any();
        assert_eq!(listed, "rollback to a at the next mount\n");
        assert_eq!(pool.sh("cat home/state"), "live");
        pool.sh("umount home; mount home");
        assert_eq!(pool.sh("cat home/state"), "old");
        pool.lovol("get home").ok("");
        pool.lovol("check").ok("");
        // Forgotten, it does not happen.
        pool.sh(
            "lovol rollback --next-mount home@a; lovol set home rollback-to=; echo new > home/state
                 umount home; lovol mount home home",
        );
        assert_eq!(pool.sh("cat home/state; umount home"), "new");
    });
}
