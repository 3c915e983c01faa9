//! Group snapshots: several volumes, of different filesystems, at one instant.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::support::{
    TO_AIM, TestPool, Thaw, Trace, Writer, ensure_unchanged, from_env, tally, wait_until,
};

/// However busy the machine is.
const SOON: Duration = Duration::from_secs(20);

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
    let _thaw = Thaw::later(&dir, SOON);
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
fn killed_while_it_is_named_there_is_a_whole_group_or_none() {
    let pool = TestPool::new();
    pool.lovol("create a 1M --fs none").ok_any();
    pool.lovol("create b 1M --fs none").ok_any();
    let images = || pool.sh("find $POOL/snapshots -name '*.img' | wc -l");
    let mut seen = Vec::new();
    // Just before it links: the index that says how to take them back, each of the two, the last.
    for call in 1..=4 {
        let options = format!("-e trace=linkat -e inject=linkat:signal=KILL:when={call}");
        let log = pool.temp().join("strace");
        let killed = pool
            .lovol("snapshot a@s b@s")
            .strace(log, &options)
            .finish();
        assert_eq!(killed.signal(), Some(9), "{killed}");
        seen.push(images());
        pool.lovol("check --repair").ok("");
        assert_eq!(images(), "0", "killed at {call}");
        pool.lovol("check").ok("");
        pool.lovol("list -a --no-header -o name").ok("a\nb\n");
    }
    assert_eq!(seen, ["0", "0", "1", "2"]);
    pool.lovol("snapshot a@s b@s").ok("a@s\nb@s\n");
}

/// Writers in all three, and thaws in case of need.
fn write_to_all(pool: &TestPool) -> Vec<(Writer, Thaw)> {
    let start = |fs: &&str| {
        let dir = pool.temp().join(fs);
        (Writer::start(&dir), Thaw::later(&dir, SOON * 10))
    };
    GUESTS.iter().map(start).collect()
}

#[track_caller]
fn nothing_is_frozen(writers: &mut [(Writer, Thaw)]) {
    for (writer, thaw) in writers {
        writer.must_go_on();
        assert!(!thaw.has_come(), "it was frozen until the test thawed it");
    }
}

#[test]
fn one_that_is_busy_leaves_none() {
    let pool = TestPool::new();
    three(&pool);
    let group = "snapshot --wait 1 xfs@a ext4@a btrfs@a";
    let mut writers = write_to_all(&pool);
    let held = fs::File::open(pool.image("xfs")).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    ensure_unchanged(&pool, || pool.lovol(group).fails(3, "volume xfs is locked"));
    drop(held);
    nothing_is_frozen(&mut writers);
    // Somebody writes to the device, and not through a filesystem.
    writers.pop();
    pool.lovol("umount btrfs").ok("");
    let device = pool.lovol("attach btrfs").ok_any();
    let held = fs::File::options().write(true).open(device.trim());
    ensure_unchanged(&pool, || pool.lovol(group).fails(1, device.trim()));
    drop(held);
    nothing_is_frozen(&mut writers);
}

/// Strikes the group at one call inside the freeze of all three, and sees that all are thawed.
fn struck_while_all_are_frozen(what: &str, exit: (Option<i32>, Option<i32>)) {
    let pool = TestPool::new();
    three(&pool);
    let mut writers = write_to_all(&pool);
    let log = pool.temp().join("strace");
    let shoot = |name: &str, options: &str| {
        let command = pool.lovol(&format!("snapshot xfs@{name} ext4@{name} btrfs@{name}"));
        let finished = command.strace(&log, options).finish();
        (finished, Trace::read(&log))
    };
    // How many ioctls come before differs from run to run, with what is written meanwhile and with the
    // machine's loop devices: until one hits.  A shot that struck one before the freeze says nothing of
    // where it would have been: then the same aim again.
    for (writer, _) in &writers {
        writer.rest();
    }
    let (mut aim, mut number, begun) = (0, 0, Instant::now());
    loop {
        let is_clone_of_frozen = |calls: &[String], at: usize| {
            let frozen = calls[..at].iter().filter(|call| call.contains("FIFREEZE"));
            frozen.count() == GUESTS.len() && calls[at].contains("FICLONERANGE")
        };
        number += 1;
        let options = format!("-e trace=ioctl -e inject=ioctl:{what}:when={}", aim + 1);
        let options = if aim == 0 { "-e trace=ioctl" } else { &options };
        let (finished, trace) = shoot(&format!("s{number}"), options);
        let calls = trace.lines();
        let has_hit = aim > 0 && aim < calls.len() && is_clone_of_frozen(calls, aim);
        if has_hit {
            assert_eq!((finished.code(), finished.signal()), exit, "{finished}");
            break;
        }
        let seen: Vec<_> = (0..calls.len())
            .filter(|at| is_clone_of_frozen(calls, *at))
            .collect();
        match seen.get(seen.len() / 2) {
            Some(middle) => aim = *middle,
            None if number % 4 == 0 => aim = 0,
            None => {}
        }
        assert!(begun.elapsed() < TO_AIM, "no shot of {number} has hit");
    }
    nothing_is_frozen(&mut writers);
    let name = format!("s{number}");
    for fs in GUESTS {
        assert!(!pool.snapshot_image(fs, &name).exists(), "{fs}@{name}");
    }
    drop(writers);
    pool.lovol("check").ok("");
}

#[test]
fn out_of_space_while_all_are_frozen_it_leaves_none() {
    struck_while_all_are_frozen("error=ENOSPC", (Some(1), None));
}

#[test]
fn killed_while_all_are_frozen_it_leaves_none() {
    struck_while_all_are_frozen("signal=KILL", (None, Some(9)));
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

/// A writer that writes one number to three volumes in turn.
struct Counter {
    is_over: Arc<AtomicBool>,
    /// The last number that all three were given.
    written: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Counter {
    /// With `is_durable`, each write is synced before the next begins.
    fn start(dirs: Vec<PathBuf>, is_durable: bool) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let (is_seen_over, to_store) = (Arc::clone(&is_over), Arc::clone(&written));
        let count = move || {
            let open = |dir: &PathBuf| fs::File::create(dir.join("counter")).unwrap();
            let files: Vec<fs::File> = dirs.iter().map(open).collect();
            let mut number = 0_u64;
            while !is_seen_over.load(SeqCst) {
                number += 1;
                for file in &files {
                    file.write_all_at(&number.to_le_bytes(), 0).unwrap();
                    if is_durable {
                        file.sync_data().unwrap();
                    }
                }
                to_store.store(number, SeqCst);
            }
        };
        Self {
            is_over,
            written,
            thread: Some(std::thread::spawn(count)),
        }
    }

    fn written(&self) -> u64 {
        self.written.load(SeqCst)
    }

    fn stop(mut self) {
        self.is_over.store(true, SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.is_over.store(true, SeqCst);
    }
}

/// 20 groups here, 200 with `LOVOL_GROUPS=200`.
///
/// Half of them without a sync: whatever was written when the barrier was reached is in the
/// snapshots, whether it was durable or not, and nothing that was written later.
#[test]
fn in_every_group_the_counters_differ_by_one_step_at_most() {
    let groups = from_env("LOVOL_GROUPS", 20);
    let pool = TestPool::new();
    three(&pool);
    for is_durable in [true, false] {
        count_in_groups(&pool, groups.div_ceil(2), is_durable);
    }
}

fn count_in_groups(pool: &TestPool, groups: u64, is_durable: bool) {
    let dirs = GUESTS.iter().map(|fs| pool.temp().join(fs)).collect();
    let counter = Counter::start(dirs, is_durable);
    wait_until("it counts", SOON, || counter.written() > 0);
    let names = |number: u64| GUESTS.map(|fs| format!("{fs}@{is_durable}{number}"));
    let mut known = Vec::new();
    for number in 0..groups {
        let before = counter.written();
        let command = pool.lovol("snapshot").arg(&names(number)[0]);
        command
            .arg(&names(number)[1])
            .arg(&names(number)[2])
            .ok_any();
        // Of the step after that one, something may be written already.
        known.push((before, counter.written() + 1));
        wait_until("it goes on", SOON, || counter.written() > before);
    }
    counter.stop();
    for (number, (before, after)) in (0..groups).zip(known) {
        let seen = names(number).map(|name| counter_in(pool, &name));
        let [xfs, ext4, btrfs] = seen;
        let tried = tally("group snapshots of three filesystems", 1);
        // Written in this order: an earlier one is never behind a later one.
        assert!(
            xfs >= ext4 && ext4 >= btrfs && xfs - btrfs <= 1,
            "group {number}, {is_durable}: {seen:?}"
        );
        assert!(
            before <= btrfs && xfs <= after,
            "group {number}, {is_durable}: {seen:?}, and {before} to {after} was written meanwhile"
        );
        tried.survived();
    }
}

fn counter_in(pool: &TestPool, snapshot: &str) -> u64 {
    let view = pool.dir("view");
    pool.lovol("mount").arg(snapshot).arg(&view).ok("");
    let bytes = fs::read(view.join("counter")).unwrap_or_default();
    pool.lovol("umount").arg(&view).ok("");
    let number = bytes.first_chunk();
    number.map_or(0, |bytes| u64::from_le_bytes(*bytes))
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
