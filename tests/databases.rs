//! A database in the guest: SQLite commits and acknowledges, snapshots are taken meanwhile, and each
//! holds a whole database with every commit that was acknowledged before the snapshot began.
//!
//! 2 snapshots for each guest, journal and way here; `LOVOL_DATABASE_SNAPSHOTS=50` for the long run.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::{Round, TestPool, from_env, kernel_tells_twins_apart, sh, tally, wait_until};

/// A program that inserts 1, 2, 3, ... and acknowledges each number when it is committed.
struct Database {
    sqlite: Child,
    acknowledged: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Database {
    fn start(file: &Path, journal: &str) -> Self {
        // It flushes its output before it reads the next line: no acknowledgement waits there.
        let mut sqlite = Command::new("sqlite3")
            .args(["-batch", "-bail"])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = sqlite.stdin.take().unwrap();
        let output = BufReader::new(sqlite.stdout.take().unwrap());
        // Each commit is durable before it is acknowledged.
        writeln!(
            input,
            "PRAGMA journal_mode={journal};\nPRAGMA synchronous=FULL;"
        )
        .unwrap();
        writeln!(
            input,
            "CREATE TABLE t(n INTEGER PRIMARY KEY, filling BLOB);"
        )
        .unwrap();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let (to_store, is_seen_over) = (Arc::clone(&acknowledged), Arc::clone(&is_over));
        let reading = std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(number) = line.strip_prefix("ack ") {
                    to_store.store(number.parse().unwrap(), Ordering::SeqCst);
                }
            }
        });
        let writing = std::thread::spawn(move || {
            for number in 1_u64.. {
                let statement = format!(
                    "INSERT INTO t VALUES({number}, randomblob(2000));\n.print ack {number}\n"
                );
                if is_seen_over.load(Ordering::SeqCst)
                    || input.write_all(statement.as_bytes()).is_err()
                {
                    return;
                }
            }
        });
        Self {
            sqlite,
            acknowledged,
            is_over,
            threads: vec![reading, writing],
        }
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.sqlite.kill().ok();
        self.sqlite.wait().ok();
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

/// A snapshot every 200 ms, as far as the machine gets there.
const EVERY: Duration = Duration::from_millis(200);

fn a_database_is_whole_in_every_snapshot(fs: &str, journal: &str, how: &str) {
    let count = from_env("LOVOL_DATABASE_SNAPSHOTS", 2);
    let pool = TestPool::new();
    let home = pool.mounted("home", &format!("1G --fs {fs}"));
    let database = Database::start(&home.join("db"), journal);
    wait_until("it commits", Duration::from_secs(20), || {
        database.acknowledged() > 10
    });
    let mut before = Vec::new();
    let mut next = Instant::now();
    for number in 0..count {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next += EVERY;
        // Known before the snapshot begins, so it is in it.
        before.push(database.acknowledged());
        pool.lovol(&format!("snapshot {how} home@{number}"))
            .ok_any();
    }
    let last = database.acknowledged();
    wait_until("it still commits", Duration::from_secs(20), || {
        database.acknowledged() > last
    });
    drop(database);
    assert!(before.last() > before.first(), "it went on");
    let seen = pool.dir("seen");
    for (number, acknowledged) in before.iter().enumerate() {
        let _round = Round::of(format!("{fs} {journal} {how} {number}"));
        // Not a view: SQLite wants to write, to roll back or to replay what was under way.
        let what = format!("SQLite ({journal}) on {fs}, snapshots {how}");
        let tried = tally(what.trim_end(), 1);
        pool.lovol(&format!("clone home@{number} seen")).ok_any();
        pool.lovol("mount seen").arg(&seen).ok("");
        must_hold(&seen.join("db"), *acknowledged);
        pool.lovol("umount seen").ok("");
        pool.lovol("delete -y --now seen").ok("");
        tried.survived();
    }
}

/// The database is whole, and has each number from 1 to at least this one.
#[track_caller]
fn must_hold(database: &Path, acknowledged: u64) {
    let query =
        "PRAGMA integrity_check; SELECT coalesce(max(n), 0) FROM t; SELECT count(*) FROM t;";
    let found = sh(&format!("sqlite3 {} '{query}'", database.display()));
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines[0], "ok", "{found}");
    let last: u64 = lines[1].parse().unwrap();
    assert!(
        last >= acknowledged,
        "{acknowledged} was acknowledged, {last} is there"
    );
    assert_eq!(lines[1], lines[2], "none is missing in between");
}

/// Frozen, with each kind of journal.
fn frozen(fs: &str) {
    a_database_is_whole_in_every_snapshot(fs, "wal", "");
    a_database_is_whole_in_every_snapshot(fs, "delete", "");
}

/// Unfrozen: what was cloned before the one call that is the instant is torn.
fn unfrozen(fs: &str) {
    a_database_is_whole_in_every_snapshot(fs, "wal", "--crash");
    a_database_is_whole_in_every_snapshot(fs, "delete", "--crash");
}

#[test]
fn a_database_is_whole_in_every_snapshot_xfs() {
    frozen("xfs");
}

#[test]
fn a_database_is_whole_in_every_snapshot_ext4() {
    frozen("ext4");
}

#[test]
fn a_database_is_whole_in_every_snapshot_btrfs() {
    frozen("btrfs");
}

#[test]
fn a_database_is_whole_in_every_crash_snapshot_xfs() {
    unfrozen("xfs");
}

#[test]
fn a_database_is_whole_in_every_crash_snapshot_ext4() {
    unfrozen("ext4");
}

#[test]
fn a_database_is_whole_in_every_crash_snapshot_btrfs() {
    if kernel_tells_twins_apart() {
        unfrozen("btrfs");
        return;
    }
    // Its log must be replayed first, which lovol refuses beside its origin.
    let pool = TestPool::new();
    pool.mounted("home", "1G --fs btrfs");
    pool.sh("echo then >$TEMP/home/file; sync $TEMP/home/file");
    pool.lovol("snapshot --crash home@a").ok_any();
    pool.lovol("clone home@a seen").fails(1, "before Linux 6.7");
}
