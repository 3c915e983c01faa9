//! Group snapshots: several volumes, of different filesystems, at one instant.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{TestPool, Thaw, ensure_unchanged, tally};

const GUESTS: [&str; 3] = ["xfs", "ext4", "btrfs"];

fn three(pool: &TestPool) {
    for fs in GUESTS {
        pool.lovol(&format!("create {fs} 400M --fs {fs}")).ok_any();
        pool.lovol(&format!("mount {fs}")).arg(pool.dir(fs)).ok("");
    }
}

#[test]
fn a_group_has_one_name_and_one_uuid() {
    let pool = TestPool::new();
    three(&pool);
    pool.lovol("snapshot xfs@pre ext4@pre btrfs@pre")
        .ok("btrfs@pre\next4@pre\nxfs@pre\n");
    let taken = pool.lovol("snapshot btrfs xfs -J").json();
    let snapshots = taken["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), 2);
    assert_eq!(snapshots[0]["name"], snapshots[1]["name"]);
    assert_eq!(snapshots[0]["created"], snapshots[1]["created"]);
    assert!(snapshots[0]["group"].is_string());
    assert_eq!(snapshots[0]["group"], snapshots[1]["group"]);
    ensure_unchanged(&pool, || {
        pool.lovol("snapshot xfs@a ext4@b").fails(2, "one name");
        pool.lovol("snapshot xfs xfs")
            .fails(2, "xfs stands there twice");
        pool.lovol("snapshot xfs nobody")
            .fails(1, "no volume named nobody");
        pool.lovol("snapshot xfs@pre ext4@pre")
            .fails(1, "ext4@pre exists already");
    });
    pool.lovol("check").ok("");
}

#[test]
fn one_that_fails_leaves_none() {
    let pool = TestPool::new();
    three(&pool);
    let dir = pool.temp().join("ext4");
    let _thaw = Thaw::later(&dir, std::time::Duration::from_secs(20));
    pool.sh("fsfreeze -f $TEMP/ext4");
    pool.lovol("snapshot --wait 1 xfs@a ext4@a btrfs@a")
        .fails(1, "already frozen by another program");
    // The others are not frozen, and this one still is.
    pool.sh("touch $TEMP/xfs/x $TEMP/btrfs/x; fsfreeze -u $TEMP/ext4");
    pool.lovol("list -a --no-header -o name")
        .ok("btrfs\next4\nxfs\n");
    assert_eq!(pool.sh("find $POOL/snapshots -name '*.img'"), "");
    pool.lovol("snapshot xfs@a ext4@a btrfs@a").ok_any();
}

#[test]
fn mixed_groups_freeze_what_is_mounted_and_take_the_rest_with_it() {
    let pool = TestPool::new();
    three(&pool);
    pool.lovol("umount ext4").ok("");
    let taken = pool.lovol("snapshot xfs@a ext4@a -J").json();
    let consistency = |at: usize| {
        taken["snapshots"][at]["consistency"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!([consistency(0), consistency(1)], ["clean", "frozen"]);
}

/// A writer that writes one number to three volumes in turn, each write durable.
struct Counter {
    is_over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Counter {
    fn start(dirs: Vec<PathBuf>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let is_seen_over = Arc::clone(&is_over);
        let count = move || {
            let open = |dir: &PathBuf| fs::File::create(dir.join("counter")).unwrap();
            let files: Vec<fs::File> = dirs.iter().map(open).collect();
            let mut number = 0_u64;
            while !is_seen_over.load(Ordering::Relaxed) {
                number += 1;
                for file in &files {
                    file.write_all_at(&number.to_le_bytes(), 0).unwrap();
                    file.sync_data().unwrap();
                }
            }
            number
        };
        Self {
            is_over,
            thread: Some(std::thread::spawn(count)),
        }
    }

    fn stop(mut self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// 20 groups here, 200 with `LOVOL_GROUPS=200`.
#[test]
fn in_every_group_the_counters_differ_by_one_step_at_most() {
    let groups: u32 = std::env::var("LOVOL_GROUPS").map_or(20, |text| text.parse().unwrap());
    let pool = TestPool::new();
    three(&pool);
    let counter = Counter::start(GUESTS.iter().map(|fs| pool.temp().join(fs)).collect());
    for number in 0..groups {
        pool.lovol(&format!(
            "snapshot xfs@g{number} ext4@g{number} btrfs@g{number}"
        ))
        .ok_any();
    }
    assert!(counter.stop() > u64::from(groups), "it went on");
    let view = pool.dir("view");
    let mut last = 0;
    for number in 0..groups {
        let tried = tally("group snapshots of three filesystems", 1);
        let seen = GUESTS.map(|fs| {
            pool.lovol(&format!("mount {fs}@g{number}"))
                .arg(&view)
                .ok("");
            let bytes = fs::read(view.join("counter")).unwrap_or_default();
            pool.lovol("umount").arg(&view).ok("");
            bytes
                .first_chunk()
                .map_or(0, |bytes| u64::from_le_bytes(*bytes))
        });
        let [xfs, ext4, btrfs] = seen;
        // Written in this order: an earlier one is never behind a later one.
        assert!(
            xfs >= ext4 && ext4 >= btrfs && xfs - btrfs <= 1,
            "group {number}: {seen:?}"
        );
        assert!(xfs >= last, "group {number} is older than the one before");
        last = xfs;
        tried.survived();
    }
    assert!(last > 0);
}

#[test]
fn what_needs_no_freeze_is_cloned_before_that_of_its_group() {
    let pool = TestPool::new();
    three(&pool);
    pool.lovol("umount ext4").ok("");
    let log = pool.temp().join("strace");
    pool.lovol("snapshot xfs@a ext4@a")
        .strace(&log, "-y -e trace=ioctl")
        .ok_any();
    let log = fs::read_to_string(log).unwrap();
    let (before, _) = log.split_once("FIFREEZE").unwrap();
    let is_pre_clone =
        |line: &str| line.contains("FICLONERANGE") && line.contains("volumes/ext4.img");
    assert!(before.lines().any(is_pre_clone), "{log}");
}

#[test]
fn without_a_freeze_there_is_no_one_instant() {
    let pool = TestPool::new();
    three(&pool);
    let taken = pool.lovol("snapshot --crash xfs@a ext4@a -J").json();
    assert_eq!(taken["snapshots"][0]["group"], serde_json::Value::Null);
    assert_eq!(taken["snapshots"][0]["consistency"], "crash");
}

#[test]
fn past_the_longest_freeze_there_is_none_or_a_crash_snapshot() {
    let pool = TestPool::new();
    three(&pool);
    ensure_unchanged(&pool, || {
        pool.lovol("snapshot --max-freeze 0.000001 xfs@a")
            .fails(1, "frozen for longer than");
        pool.lovol("snapshot --max-freeze 0 xfs@a")
            .fails(2, "more than 0 seconds");
    });
    pool.sh("touch $TEMP/xfs/still-writable");
    let taken = pool
        .lovol("snapshot --max-freeze 0.000001 --if-late crash xfs@a -J")
        .json();
    assert_eq!(taken["snapshots"][0]["consistency"], "crash");
}
