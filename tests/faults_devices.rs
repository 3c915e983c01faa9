//! Loop devices and mounts that somebody else has a hand in.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{TestPool, Trace, ensure_unchanged, wait_until};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_guest_that_cannot_be_frozen_is_taken_only_by_crash() {
    // Not every kernel has a filesystem that cannot: so this one says that it cannot.
    let pool = TestPool::new();
    let dir = pool.dir("guest");
    pool.lovol("create raw 20M --fs none").ok_any();
    let device = pool.lovol("attach raw").ok_any();
    pool.sh(&format!(
        "mkfs.ext4 -q {0}; mount {0} $TEMP/guest",
        device.trim()
    ));
    let options = format!(
        "-P {} -e trace=ioctl -e inject=ioctl:error=EOPNOTSUPP:when=1",
        dir.display()
    );
    let log = pool.temp().join("strace");

    ensure_unchanged(&pool, || {
        let said = pool
            .lovol("snapshot raw@a")
            .strace(&log, &options)
            .fails(1, "its filesystem cannot be frozen");
        assert!(said.contains("hint: --crash"), "{said}");
    });
    pool.sh("echo precious > $TEMP/guest/letter; sync --file-system $TEMP/guest");
    pool.lovol("snapshot raw@a --crash")
        .strace(&log, &options)
        .ok("raw@a\n");
    assert_eq!(Trace::read(&log).injected(), 0);
    let shown = pool.lovol("list -a -J").json();
    let snapshot = &shown["volumes"][0]["snapshots"][0];
    assert_eq!(snapshot["consistency"], "crash");
    pool.lovol("mount raw@a").arg(pool.dir("view")).ok_any();
    assert_eq!(pool.sh("cat $TEMP/view/letter"), "precious");
}

#[test]
fn attached_twice_it_is_refused_and_named() {
    let pool = TestPool::new();
    pool.mounted("home", "20M --fs ext4");
    let again = pool.dir("again");
    let first = pool.loops()[0].device.clone();
    let second = pool.sh("losetup --find --show $POOL/volumes/home.img");

    ensure_unchanged(&pool, || {
        let both = |said: String| {
            assert!(said.contains(&first) && said.contains(&second), "{said}");
        };
        both(
            pool.lovol("mount home")
                .arg(&again)
                .fails(1, "more than once"),
        );
        both(pool.lovol("attach home").fails(1, "more than once"));
        both(pool.lovol("snapshot home@a").fails(1, "more than once"));
        both(pool.lovol("clone home copy").fails(1, "more than once"));
        let found = pool.lovol("check").finish();
        assert_eq!(found.code(), Some(1), "{found}");
        assert!(found.stdout.contains("more than once"), "{found}");
        both(found.stdout);
    });

    pool.sh(&format!("losetup --detach {second}"));
    wait_until("it is gone", SOON, || pool.loops().len() == 1);
    pool.lovol("check").ok("");
    pool.lovol("snapshot home@a").ok("home@a\n");
}

#[test]
fn what_is_in_use_is_neither_deleted_nor_renamed() {
    let pool = TestPool::new();
    let home = pool.mounted("home", "20M --fs ext4");
    pool.lovol("snapshot home@a").ok_any();
    let view = pool.dir("view");
    pool.lovol("mount home@a").arg(&view).ok_any();
    pool.lovol("create db 1M --fs none").ok_any();
    let device = pool.lovol("attach db").ok_any();
    pool.lovol("create held 1M --fs none").ok_any();
    let held = File::open(pool.image("held")).unwrap();

    let refused = |words: &str, says: &str| {
        let said = pool.lovol(words).fails(1, "in use");
        assert!(said.contains(says), "{words}: {said}");
    };
    ensure_unchanged(&pool, || {
        let home = home.to_str().unwrap();
        for words in ["delete -r home", "delete -r home --now -y", "rename home h"] {
            refused(words, home);
        }
        for words in ["delete home@a", "rename home@a b"] {
            refused(words, view.to_str().unwrap());
        }
        for words in ["delete db", "delete db --now -y", "rename db d"] {
            refused(words, device.trim());
        }
        for words in ["delete held", "delete held --now -y", "rename held h"] {
            refused(words, "pid");
        }
        // All are checked before any is deleted.
        refused("delete home@a db held", "in use");
        pool.lovol("clone --force home db").fails(1, "in use");
        pool.lovol("clone --force home held").fails(1, "in use");
    });
    drop(held);
    pool.lovol("delete held").ok("");
}

#[test]
fn detach_waits_for_whoever_has_the_device_open() {
    let pool = TestPool::new();
    pool.lovol("create home 20M --fs ext4").ok_any();
    let before = pool.sh("sha256sum $POOL/volumes/home.img");
    let device = pool.lovol("attach home").ok_any();
    let held = File::open(device.trim()).unwrap();

    let started = Instant::now();
    ensure_unchanged(&pool, || {
        let said = pool.lovol("detach home").fails(1, "in use");
        let pid = std::process::id().to_string();
        assert!(
            said.contains(device.trim()) && said.contains(&pid),
            "{said}"
        );
    });
    assert!(
        started.elapsed() > Duration::from_secs(1),
        "it did not wait"
    );
    assert!(started.elapsed() < Duration::from_secs(20));

    // Whoever leaves while it waits is waited for.
    let running = pool.lovol("detach home").start();
    drop(held);
    running.finish().expect_success();
    assert!(pool.loops().is_empty());
    assert_eq!(pool.sh("sha256sum $POOL/volumes/home.img"), before);
}

#[test]
fn in_a_race_for_devices_each_gets_its_own_image() {
    let pool = TestPool::new();
    for number in 0..4 {
        pool.lovol(&format!("create v{number} 1M --fs none"))
            .ok_any();
    }
    pool.sh("truncate -s 1M $TEMP/theirs");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                pool.sh("device=$(losetup --find --show $TEMP/theirs)
                     losetup --output BACK-FILE --noheadings $device | grep -q theirs
                     losetup --detach $device");
            }
        });
        let lovols: Vec<_> = (0..4)
            .map(|number| {
                scope.spawn({
                    let pool = &pool;
                    move || {
                        for _ in 0..10 {
                            let device = pool.lovol(&format!("attach v{number}")).ok_any();
                            let shown = pool.sh(&format!(
                                "losetup --output BACK-FILE --noheadings {}",
                                device.trim()
                            ));
                            assert_eq!(shown, pool.image(&format!("v{number}")).to_str().unwrap());
                            pool.lovol(&format!("detach v{number}")).ok("");
                        }
                    }
                })
            })
            .collect();
        let results: Vec<_> = lovols
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        stop.store(true, Ordering::SeqCst);
        for result in results {
            result.unwrap();
        }
    });
    wait_until("all are gone", SOON, || pool.loops().is_empty());
}

#[test]
fn sixty_four_at_once_leave_the_index_equal_to_the_files() {
    let pool = TestPool::new();
    pool.mounted("home", "20M --fs ext4");
    pool.lovol("create base 20M --fs ext4").ok_any();
    for number in 0..8 {
        pool.lovol(&format!("create old{number} 1M --fs none"))
            .ok_any();
        pool.lovol(&format!("clone base m{number}")).ok_any();
        pool.dir(&format!("m{number}"));
    }

    let commands: Vec<String> = (0..8)
        .flat_map(|n| {
            [
                format!("create new{n} 1M --fs none"),
                format!("snapshot home@s{n}"),
                // Two of each want the same name.
                format!("snapshot home@same{}", n / 2),
                format!("delete old{n}"),
                format!("mount m{n} {}/m{n}", pool.temp().display()),
                "snapshot base".to_owned(),
                format!("create same{} 1M --fs none", n / 2),
                "list -a".to_owned(),
            ]
        })
        .collect();
    let running: Vec<_> = commands
        .iter()
        .map(|words| pool.lovol(&format!("--wait 60 {words}")).start())
        .collect();
    let finished: Vec<_> = running
        .into_iter()
        .map(|running| running.finish())
        .collect();

    let failed: Vec<_> = finished.iter().filter(|f| !f.status.success()).collect();
    for failed in &failed {
        assert_eq!(failed.code(), Some(1), "{failed}");
        assert!(failed.stderr.contains("exists already"), "{failed}");
    }
    // Of two that want one name, one gets it.
    assert_eq!(failed.len(), 8);
    pool.lovol("check").ok("");

    let list = pool.lovol("list -a -J").json();
    let volumes = list["volumes"].as_array().unwrap();
    let names: BTreeSet<_> = volumes.iter().map(|v| v["name"].to_string()).collect();
    assert_eq!(names.len(), volumes.len());
    assert_eq!(names.len(), 2 + 8 + 8 + 4);
    let snapshots_of = |name: &str| {
        let volume = volumes.iter().find(|v| v["name"] == name).unwrap();
        volume["snapshots"].as_array().unwrap().len()
    };
    assert_eq!(snapshots_of("home"), 8 + 4);
    assert_eq!(snapshots_of("base"), 8);
    assert_eq!(pool.mounts().len(), 1 + 8);
}

#[test]
fn what_was_replaced_and_cannot_be_given_back_keeps_a_name() {
    let yard = TestPool::raw();
    yard.sh("cd $POOL; truncate -s 16M a.img; mkfs.ext4 -q a.img; echo precious > b.img");

    // The new image is synced first, then the directory; and the second exchange is the way back.
    let failing = "-e trace=fsync,renameat2 -e inject=fsync:error=EIO:when=2+ -e inject=renameat2:error=EIO:when=2";
    let said = yard
        .lovol("clone --force ./a.img ./b.img")
        .within(yard.path())
        .strace(yard.temp().join("strace"), failing)
        .fails(1, "could not be taken back");

    let kept = yard.sh("cd $POOL; ls -A | grep kept");
    assert!(said.contains(&kept), "{said}");
    assert_eq!(yard.sh(&format!("cat $POOL/{kept}")), "precious");
    // Nobody sweeps it.
    let again = yard.lovol("clone --force ./a.img ./b.img");
    again.within(yard.path()).ok_any();
    assert_eq!(yard.sh(&format!("cat $POOL/{kept}")), "precious");
    assert_eq!(yard.sh("cd $POOL; ls -A").lines().count(), 3);
}

#[test]
fn what_was_mounted_before_is_waited_for_while_it_goes_away() {
    let pool = TestPool::new();
    pool.lovol("create home 20M --fs ext4").ok_any();
    let device = pool.lovol("attach home").ok_any();
    let dir = pool.dir("home");
    // Nobody sees it any more, and somebody still has it open, read-only.
    pool.sh(&format!(
        "mount -o ro {} $TEMP/home; exec 3< $TEMP/home; sleep 1 > /dev/null 2>&1 &
         exec 3<&-; umount --lazy $TEMP/home",
        device.trim()
    ));
    pool.lovol("mount home").arg(&dir).ok("");
    pool.sh("touch $TEMP/home/file");
}
