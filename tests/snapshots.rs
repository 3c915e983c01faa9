//! Snapshots, views, clones: what they hold, and what they never touch.

use std::time::Duration;

use crate::support::{TestPool, Writer, ensure_unchanged, sh};

const GUESTS: [&str; 3] = ["xfs", "ext4", "btrfs"];

/// A mounted volume with one file that is in the guest's memory only.
fn mounted(pool: &TestPool, name: &str, fs: &str) {
    pool.lovol(&format!("create {name} 400M --fs {fs}"))
        .ok_any();
    pool.lovol(&format!("mount {name}"))
        .arg(pool.dir(name))
        .ok("");
    pool.sh(&format!("echo unwritten > $TEMP/{name}/file"));
}

#[test]
fn a_mounted_volume_is_frozen_and_viewed_beside_itself() {
    let pool = TestPool::new();
    for fs in GUESTS {
        mounted(&pool, fs, fs);
        let taken = pool.lovol(&format!("snapshot {fs}@a -J")).json();
        let snapshot = &taken["snapshots"][0];
        assert_eq!(snapshot["consistency"], "frozen");
        assert!(snapshot["frozen_us"].as_u64().unwrap() > 0);
        assert!(snapshot["extents"].as_u64().unwrap() > 0);
        let image = pool.snapshot_image(fs, "a");
        let before = sh(&format!("sha256sum < {}", image.display()));

        let view = pool.dir(&format!("{fs}-view"));
        pool.sh(&format!("echo later > $TEMP/{fs}/file"));
        pool.lovol(&format!("mount {fs}@a")).arg(&view).ok("");
        assert_eq!(
            pool.sh(&format!("cat $TEMP/{fs}-view/file")),
            "unwritten",
            "{fs}"
        );
        assert!(
            pool.sh(&format!("touch $TEMP/{fs}-view/x 2>&1 || true"))
                .contains("Read-only")
        );
        ensure_unchanged(&pool, || {
            pool.lovol(&format!("delete {fs}@a")).fails(1, "mounted on")
        });
        pool.lovol(&format!("umount {fs}@a")).ok("");
        assert_eq!(
            sh(&format!("sha256sum < {}", image.display())),
            before,
            "{fs}: viewing changed it"
        );
    }
}

#[test]
fn a_crash_snapshot_is_viewed_with_its_log_replayed_and_stays_as_it_is() {
    let pool = TestPool::new();
    for fs in GUESTS {
        mounted(&pool, fs, fs);
        pool.sh(&format!(
            "sync -f $TEMP/{fs}; mkdir $TEMP/{fs}/d; touch $TEMP/{fs}/d/x; sync -f $TEMP/{fs}"
        ));
        let taken = pool.lovol(&format!("snapshot --crash {fs}@a -J")).json();
        assert_eq!(taken["snapshots"][0]["consistency"], "crash");
        assert_eq!(taken["snapshots"][0]["frozen_us"], serde_json::Value::Null);
        let image = pool.snapshot_image(fs, "a");
        let before = sh(&format!("sha256sum < {}", image.display()));
        if fs == "btrfs" && !lovol::guest::btrfs::kernel_tells_twins_apart() {
            ensure_unchanged(&pool, || {
                pool.lovol("mount btrfs@a")
                    .arg(pool.dir("v"))
                    .fails(1, "before Linux 6.7 is not safe beside its origin")
            });
            continue;
        }
        pool.lovol(&format!("mount {fs}@a"))
            .arg(pool.dir("v"))
            .ok("");
        assert_eq!(
            pool.sh("cat $TEMP/v/file; ls $TEMP/v/d"),
            "unwritten\nx",
            "{fs}"
        );
        // The view is found again though its file has no name.
        let listed = pool
            .lovol(&format!(
                "list -a {fs} --raw --no-header -o name,mounted-on"
            ))
            .ok_any();
        assert!(
            listed.contains(&format!("{fs}@a {}", pool.temp().join("v").display())),
            "{listed}"
        );
        ensure_unchanged(&pool, || {
            pool.lovol(&format!("delete {fs}@a")).fails(1, "mounted on")
        });
        pool.lovol("umount").arg(pool.temp().join("v")).ok("");
        assert_eq!(
            sh(&format!("sha256sum < {}", image.display())),
            before,
            "{fs}"
        );
    }
}

#[test]
fn an_unused_volume_is_clean() {
    let pool = TestPool::new();
    for fs in GUESTS {
        mounted(&pool, fs, fs);
        pool.lovol(&format!("umount {fs}")).ok("");
        let consistency = |volume: &str, name: &str| {
            let taken = pool.lovol(&format!("snapshot {volume}@{name} -J")).json();
            taken["snapshots"][0]["consistency"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(consistency(fs, "a"), "clean", "{fs}");
    }
}

#[test]
fn an_image_with_a_dirty_log_is_a_crash_snapshot() {
    let pool = TestPool::new();
    for fs in GUESTS {
        mounted(&pool, fs, fs);
        pool.sh(&format!(
            "sync -f $TEMP/{fs}; touch $TEMP/{fs}/new; sync $TEMP/{fs}/new"
        ));
        pool.lovol(&format!("snapshot --crash {fs}@base")).ok_any();
        pool.lovol(&format!("clone --keep-uuid {fs}@base {fs}-cut"))
            .ok_any();
        let taken = pool.lovol(&format!("snapshot {fs}-cut@a -J")).json();
        assert_eq!(taken["snapshots"][0]["consistency"], "crash", "{fs}");
    }
}

#[test]
fn a_volume_mounted_or_attached_by_others_is_found_and_frozen() {
    let pool = TestPool::new();
    pool.lovol("create home 300M").ok_any();
    pool.dir("m");
    let consistency = |target: &str| {
        let taken = pool.lovol(&format!("snapshot {target} -J")).json();
        taken["snapshots"][0]["consistency"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    pool.sh("mount -o loop $POOL/volumes/home.img $TEMP/m");
    assert_eq!(consistency("home@loop"), "frozen");
    assert_eq!(
        consistency(&pool.temp().join("m").display().to_string()),
        "frozen"
    );
    pool.sh("umount $TEMP/m");
    let device = pool.sh("losetup -f --show $POOL/volumes/home.img");
    pool.sh(&format!("mount {device} $TEMP/m"));
    assert_eq!(consistency("home@losetup"), "frozen");
    assert_eq!(consistency(&device), "frozen");
    assert_eq!(
        consistency(&pool.image("home").display().to_string()),
        "frozen"
    );
    pool.sh(&format!("umount $TEMP/m; losetup -d {device}"));
    assert_eq!(consistency("home@unused"), "clean");
}

#[test]
fn a_snapshot_under_a_writer_is_whole_and_the_writer_goes_on() {
    let pool = TestPool::new();
    for fs in GUESTS {
        mounted(&pool, fs, fs);
        let writer = Writer::start(pool.temp().join(fs));
        for number in 0..5 {
            pool.lovol(&format!("snapshot {fs}@{number}")).ok_any();
        }
        writer.must_go_on();
        writer.stop();
        pool.lovol(&format!("umount {fs}")).ok("");
        // After log replay in a clone, each passes its filesystem's own check.
        for number in [0, 4] {
            pool.lovol(&format!("clone {fs}@{number} {fs}-{number}"))
                .ok_any();
            let image = pool.image(&format!("{fs}-{number}"));
            let check = match fs {
                "xfs" => "xfs_repair -n -f",
                "ext4" => "e2fsck -fn",
                _ => "btrfs check --readonly",
            };
            sh(&format!("{check} {} 2>&1", image.display()));
        }
    }
}

#[test]
fn a_clone_depends_on_nothing_and_has_a_uuid_of_its_own() {
    let pool = TestPool::new();
    for fs in GUESTS {
        mounted(&pool, fs, fs);
        pool.lovol(&format!("snapshot {fs}@a")).ok_any();
        pool.lovol(&format!("clone {fs}@a {fs}-b"))
            .ok(&format!("{fs}-b\n"));
        pool.lovol(&format!("clone {fs} {fs}-c"))
            .ok(&format!("{fs}-c\n"));
        // All three at once.
        pool.lovol(&format!("mount {fs}-b"))
            .arg(pool.dir("b"))
            .ok("");
        pool.lovol(&format!("mount {fs}-c"))
            .arg(pool.dir("c"))
            .ok("");
        assert_eq!(
            pool.sh("cat $TEMP/b/file $TEMP/c/file"),
            "unwritten\nunwritten"
        );
        pool.sh("echo mine > $TEMP/b/file; umount $TEMP/b $TEMP/c");
        let uuid = |name: &str| {
            let image = pool.image(name);
            let found = sh(&format!("blkid -p -o value -s UUID {}", image.display()));
            let shown = pool.lovol(&format!("show {name} -J")).json();
            assert_eq!(
                shown["volumes"][0]["fs_uuid"],
                found.as_str(),
                "{name}: the index knows it"
            );
            found
        };
        let mut uuids = vec![uuid(fs), uuid(&format!("{fs}-b")), uuid(&format!("{fs}-c"))];
        uuids.sort();
        uuids.dedup();
        assert_eq!(uuids.len(), 3, "{fs}");
        pool.lovol(&format!("clone --keep-uuid {fs}@a {fs}-d"))
            .ok_any();
        assert_eq!(uuid(&format!("{fs}-d")), uuid(fs));
        pool.lovol(&format!("umount {fs}")).ok("");
        pool.lovol(&format!("delete -r {fs}")).ok("");
        pool.lovol(&format!("mount {fs}-b"))
            .arg(pool.dir("b"))
            .ok("");
        assert_eq!(pool.sh("cat $TEMP/b/file; umount $TEMP/b"), "mine");
    }
    pool.lovol("check").ok("");
}

#[test]
fn clone_replaces_only_by_force_and_keeps_the_old_one_in_the_trash() {
    let pool = TestPool::new();
    mounted(&pool, "home", "ext4");
    pool.lovol("create old 400M --fs ext4").ok_any();
    pool.lovol("snapshot old@s").ok_any();
    ensure_unchanged(&pool, || {
        pool.lovol("clone home old").fails(1, "--force replaces it");
        pool.lovol("clone home home --force").fails(1, "the same");
    });
    pool.lovol("mount old").arg(pool.dir("o")).ok("");
    ensure_unchanged(&pool, || {
        pool.lovol("clone home old --force").fails(1, "in use")
    });
    pool.sh("echo old > $TEMP/o/file; umount $TEMP/o");
    pool.lovol("clone home old --force").ok("old\n");
    pool.lovol("mount old").arg(pool.dir("o")).ok("");
    assert_eq!(pool.sh("cat $TEMP/o/file; umount $TEMP/o"), "unwritten");
    pool.lovol("list -a --no-header -o name").ok("home\nold\n");
    pool.lovol("check").ok("");
    pool.lovol("undelete old --as older").ok("older\n");
    pool.lovol("list -a --no-header -o name")
        .ok("home\nold\nolder\nolder@s\n");
    pool.lovol("mount older").arg(pool.dir("o")).ok("");
    assert_eq!(pool.sh("cat $TEMP/o/file; umount $TEMP/o"), "old");
}

#[test]
fn clone_from_path_to_path_does_what_loclone_does() {
    let pool = TestPool::raw();
    pool.sh("cd $POOL; truncate -s 400M a.img; mkfs.ext4 -q a.img; mkdir m; mount -o loop a.img m; echo hi > m/f");
    let at = |words: &str| pool.lovol(words).within(pool.path());
    // No pool anywhere; frozen, as it is mounted.
    let cloned = at("clone ./a.img ./b.img -J").json();
    assert_eq!(cloned["images"][0]["consistency"], "frozen");
    pool.sh("cd $POOL; mkdir n; mount -o ro,loop b.img n; grep -q hi n/f; umount n");
    at("clone ./m ./c.img").ok("./c.img\n");
    assert_eq!(
        pool.sh("cd $POOL; blkid -p -o value -s UUID a.img b.img c.img | sort -u | wc -l"),
        "1"
    );
    at("clone ./a.img ./d.img --new-uuid").ok_any();
    assert_eq!(
        pool.sh("cd $POOL; blkid -p -o value -s UUID a.img d.img | sort -u | wc -l"),
        "2"
    );
    ensure_unchanged(&pool, || {
        at("clone ./a.img ./b.img").fails(1, "--force replaces it");
        at("clone ./a.img ./a.img --force").fails(1, "source");
        at("clone ./b.img ./a.img --force").fails(1, "in use");
        at("clone ./a.img ./m/x.img").fails(1, "different filesystems");
        at("clone ./nobody.img ./x.img").fails(1, "No such file");
    });
    pool.sh("cd $POOL; cp b.img e.img; chown 1000:1000 a.img; chmod 644 a.img");
    at("clone ./a.img ./e.img --force").ok_any();
    assert_eq!(
        pool.sh("cd $POOL; stat -c %u:%g:%a e.img; ls -A | grep -c lovol || true"),
        "1000:1000:600\n0"
    );
    pool.sh("cd $POOL; mkdir p; lovol --pool $POOL/p init > /dev/null; umount m");
    at("clone ./a.img ./p/volumes/x.img").fails(1, "it lies in a pool");
}

#[test]
fn a_snapshot_needs_a_volume_of_the_pool() {
    let pool = TestPool::new();
    pool.sh("truncate -s 1M $TEMP/a.img");
    let said = pool.lovol("snapshot ./a.img").fails(1, "a.img");
    assert!(said.contains("lovol clone ./a.img ./b.img"), "{said}");
    pool.lovol("snapshot")
        .arg(pool.temp())
        .fails(1, "no volume mounted at");
    pool.lovol("snapshot home@a@b")
        .fails(2, "a name consists of");
}

#[test]
fn what_lies_on_the_device_is_not_frozen_through() {
    let pool = TestPool::new();
    pool.lovol("create vm 64M --fs none").ok_any();
    let device = pool.lovol("attach vm").ok_any();
    let device = device.trim();
    // Attached and unused: nothing can change it while we hold it.
    pool.lovol("snapshot vm@idle").ok("vm@idle\n");
    // Open for writing by somebody whom no freeze reaches.
    let mut open = std::process::Command::new("sleep")
        .arg("60")
        .stdout(std::fs::File::options().write(true).open(device).unwrap())
        .spawn()
        .unwrap();
    let said = pool
        .lovol("snapshot vm@busy")
        .fails(1, "not mounted, but open (sleep, pid");
    assert!(said.contains("--crash"), "{said}");
    pool.lovol("snapshot --crash vm@busy").ok("vm@busy\n");
    open.kill().unwrap();
    open.wait().unwrap();
}

#[test]
fn a_part_on_another_device_is_not_frozen_through() {
    let pool = TestPool::new();
    pool.lovol("create data 400M --fs none").ok_any();
    pool.lovol("attach data").ok_any();
    pool.dir("data");
    pool.sh("truncate -s 100M $TEMP/log
        log=$(losetup --find --show $TEMP/log)
        device=$(losetup --list --noheadings --output NAME --associated $POOL/volumes/data.img)
        mkfs.xfs -q -l logdev=$log $device
        mount -o logdev=$log $device $TEMP/data");
    for options in ["rw", "ro"] {
        pool.sh(&format!("mount -o remount,{options} $TEMP/data"));
        let said = pool
            .lovol("snapshot data@a")
            .fails(1, "a part of its filesystem is on another device (logdev=");
        assert!(said.contains("--crash"), "{said}");
    }
    pool.lovol("snapshot --crash data@a").ok("data@a\n");
}

#[test]
fn a_large_image_of_an_odd_size_is_cloned_whole_in_a_freeze() {
    let pool = TestPool::new();
    // What 'dd' makes of a disk of 80 GB: a part of it ends within a block.
    pool.sh("truncate -s 80000004096 $TEMP/disk.img; mkfs.ext4 -q $TEMP/disk.img");
    pool.lovol("create home --from ./disk.img --copy").ok_any();
    pool.lovol("mount home").arg(pool.dir("home")).ok_any();
    pool.lovol("snapshot home@a").ok("home@a\n");
    pool.lovol("check").ok("");
}

#[test]
fn nothing_is_frozen_for_long_with_many_extents() {
    let pool = TestPool::new();
    mounted(&pool, "home", "ext4");
    // Every other block of 80 MiB: 10,000 extents.
    pool.sh("fio --name=x --filename=$TEMP/home/big --size=80M --bs=4k --rw=write:4k --direct=1 --ioengine=psync > /dev/null");
    let writer = Writer::start(pool.temp().join("home"));
    pool.lovol("snapshot home@first").ok_any();
    writer.forget_worst();
    let taken = pool.lovol("snapshot home@a -J").json();
    assert!(
        taken["snapshots"][0]["extents"].as_u64().unwrap() > 5000,
        "{taken}"
    );
    // 10,000 extents cost 600 ms or more inside a freeze; this is far from a benchmark.
    let worst = writer.worst();
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    writer.stop();
}
