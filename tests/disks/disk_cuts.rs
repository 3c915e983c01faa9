//! The pool's disk remembers every write, in the order in which they became durable; played back to
//! any flush in between, it is what a power cut at that moment leaves.
//!
//! Verbs run one after the other, and each one that is acknowledged leaves a mark in the log.  At a
//! mark, all of the acknowledged verbs is there and nothing else; behind it, the next verb's work is
//! there whole or not at all; and the newest snapshot is what the guest was when it was taken.
//!
//! All marks and a few of the other points here; `LOVOL_REPLAYS=all` for the long run, or a number,
//! and `LOVOL_SEED=7` for other ones.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::mapper::{Mapped, unmount};
use crate::support::{
    Lovol, Numbers, Round, TestPool, Writer, from_env, lovol, sh, tally, wait_until,
};
use crate::write_log::WriteLog;

type Names = BTreeSet<String>;

/// What is done, and what of it makes (`+`) and removes (`-`) which names.
const VERBS: &[(&str, &str)] = &[
    ("create a 20M --fs ext4", "+a"),
    ("snapshot home@1", "+home@1"),
    ("snapshot home@2 other@2", "+home@2 +other@2"),
    ("rename a b", "-a +b"),
    ("clone home@1 c", "+c"),
    ("snapshot home@3", "+home@3"),
    ("snapshot home@4 b@4 c@4", "+home@4 +b@4 +c@4"),
    ("delete home@1", "-home@1"),
    ("rename b d", "-b -b@4 +d +d@4"),
    ("delete -r c", "-c -c@4"),
    ("undelete c", "+c +c@4"),
    ("hold home@3", ""),
    ("rollback c@4", "+c@before"),
    ("resize other +200M", ""),
    ("set home user:owner=alice", ""),
    ("snapshot other@5 home@5", "+home@5 +other@5"),
    ("delete -y --now -r d", "-d -d@4"),
    ("rename other@5 other@6", "-other@5 +other@6"),
    ("release home@3", ""),
    ("delete -r c", "-c -c@4 -c@before"),
    ("purge -y c", ""),
    ("snapshot home@7", "+home@7"),
];

/// What was recorded, and what is to be there after how many verbs.
struct Recording {
    // It lies on the pool, and must be closed before that goes.
    log: WriteLog,
    outer: TestPool,
    states: Vec<Names>,
    fs: &'static str,
}

impl Recording {
    /// Runs all verbs on a disk that logs its writes.
    #[track_caller]
    fn of(fs: &'static str, size: &str) -> Self {
        let outer = TestPool::raw();
        outer.sh("truncate -s 2G $POOL/disk; truncate -s 16G $POOL/log; mkfs.xfs -q -K $POOL/disk; cp --reflink=always $POOL/disk $POOL/replay");
        let attach = |name: &str| {
            PathBuf::from(outer.sh(&format!("losetup -f --show --direct-io=on $POOL/{name}")))
        };
        let (disk, log) = (attach("disk"), attach("log"));
        let target = format!("log-writes {} {}", disk.display(), log.display());
        let mapped = Mapped::new(&disk, &target);
        let recorder = Recorder::new(&outer, mapped, fs, size);
        let states = recorder.run();
        drop(recorder);
        outer.sh(&format!(
            "losetup --detach {}; losetup --detach {}",
            disk.display(),
            log.display()
        ));
        let log = WriteLog::read(&outer.path().join("log"));
        Self {
            log,
            outer,
            states,
            fs,
        }
    }
}

/// The pool that is being recorded.
struct Recorder<'a> {
    outer: &'a TestPool,
    mapped: Mapped,
    pool: PathBuf,
}

impl<'a> Recorder<'a> {
    fn new(outer: &'a TestPool, mapped: Mapped, fs: &str, size: &str) -> Self {
        let pool = outer.dir("inner");
        outer.sh(&format!("mount {} $TEMP/inner", mapped.path().display()));
        let recorder = Self {
            outer,
            mapped,
            pool,
        };
        recorder.lovol("init").ok_any();
        for name in ["home", "other"] {
            recorder
                .lovol(&format!("create {name} {size} --fs {fs}"))
                .ok_any();
            recorder
                .lovol("mount")
                .arg(name)
                .arg(outer.dir(name))
                .ok("");
        }
        recorder
    }

    fn lovol(&self, words: &str) -> Lovol {
        lovol(words).env("LOVOL_POOL", &self.pool)
    }

    /// Runs the verbs, and unmounts everything.
    #[track_caller]
    fn run(&self) -> Vec<Names> {
        let mut states = vec![Names::from(["home".to_owned(), "other".to_owned()])];
        let writer = Writer::start(self.outer.dir("other"));
        self.mapped.message("mark 0");
        for (number, (words, changes)) in VERBS.iter().enumerate() {
            // A snapshot's content is the number of its verb, durable before it is taken.
            self.outer.sh(&format!(
                "echo {number} > $TEMP/home/number; sync $TEMP/home/number"
            ));
            self.lovol(words).ok_any();
            self.mapped.message(&format!("mark {}", number + 1));
            let state = states.last().unwrap().clone();
            states.push(changed(state, changes));
        }
        writer.stop();
        self.outer.sh("umount $TEMP/home $TEMP/other $TEMP/inner");
        states
    }
}

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        unmount(self.outer, &["home", "other", "inner"]);
    }
}

/// `+new -old`
fn changed(mut names: Names, changes: &str) -> Names {
    for change in changes.split_whitespace() {
        let name = change[1..].to_owned();
        match &change[..1] {
            "+" => assert!(names.insert(name), "{change}"),
            _ => assert!(names.remove(&name), "{change}"),
        }
    }
    names
}

/// What a rollback keeps is named by the time.
fn without_time(name: &str) -> String {
    let end = name.find("@before").map(|at| at + "@before".len());
    name[..end.unwrap_or(name.len())].to_owned()
}

/// A place in the log, right behind one of its entries.
struct Point {
    entry: usize,
    /// How many verbs are acknowledged.
    acknowledged: usize,
    is_mark: bool,
}

impl Recording {
    /// Every mark and every flush behind the first mark.
    fn points(&self) -> Vec<Point> {
        let mut acknowledged = None;
        let mut points = Vec::new();
        for (number, entry) in self.log.entries.iter().enumerate() {
            let mark = self.log.mark(entry).and_then(|text| text.parse().ok());
            acknowledged = mark.or(acknowledged);
            let Some(acknowledged) = acknowledged else {
                continue;
            };
            if mark.is_some() || entry.is_barrier() {
                points.push(Point {
                    entry: number,
                    acknowledged,
                    is_mark: mark.is_some(),
                });
            }
        }
        points
    }

    /// Plays the log back, and looks at what is there at each of these points.
    #[track_caller]
    fn replay(&self, points: &[Point]) {
        let disk = File::options()
            .write(true)
            .open(self.outer.path().join("replay"))
            .unwrap();
        let mut next = 0;
        for point in points {
            for entry in &self.log.entries[next..=point.entry] {
                self.log.replay(entry, &disk);
            }
            next = point.entry + 1;
            let _round = Round::of(format!(
                "entry {} of {}, behind {:?}",
                point.entry,
                self.log.entries.len(),
                point.acknowledged.checked_sub(1).map(|verb| VERBS[verb].0),
            ));
            let tried = tally(&format!("power cuts at a flush, {} guest", self.fs), 1);
            self.look_at(point);
            tried.survived();
        }
    }

    #[track_caller]
    fn look_at(&self, point: &Point) {
        let dir = self.outer.dir("cut");
        self.outer.sh(
            "cp --reflink=always $POOL/replay $POOL/cut; mount -o loop,nouuid $POOL/cut $TEMP/cut",
        );
        let at = |words: &str| lovol(words).env("LOVOL_POOL", &dir);
        at("check --repair").ok("");
        at("check").ok("");
        let listed = at("list -a --raw --no-header -o name").ok_any();
        let found: Names = listed.lines().map(without_time).collect();
        let begun = point.acknowledged + usize::from(!point.is_mark);
        let states = &self.states[point.acknowledged..=begun.min(VERBS.len())];
        assert!(states.contains(&found), "{found:#?} is none of {states:#?}");
        self.look_into_newest(&found, &dir);
        wait_until("it is unmounted", Duration::from_secs(60), || {
            self.outer
                .sh("umount $TEMP/cut 2> /dev/null && echo gone || true")
                == "gone"
        });
        self.outer.sh("rm $POOL/cut");
    }

    /// The newest snapshot of `home` holds the number of its verb, and is whole after log replay.
    #[track_caller]
    fn look_into_newest(&self, found: &Names, pool: &Path) {
        let Some(newest) = found.iter().rfind(|name| name.starts_with("home@")) else {
            return;
        };
        let verb = VERBS
            .iter()
            .position(|(words, _)| words.split(' ').any(|word| word == newest));
        let at = |words: &str| lovol(words).env("LOVOL_POOL", pool);
        at(&format!("mount {newest}"))
            .arg(self.outer.dir("view"))
            .ok("");
        let number = self.outer.sh("cat $TEMP/view/number; umount $TEMP/view");
        assert_eq!(number, verb.unwrap().to_string(), "{newest}");
        at(&format!("clone {newest} checked")).ok_any();
        let check = match self.fs {
            "xfs" => "xfs_repair -n -f",
            "ext4" => "e2fsck -fn",
            _ => "btrfs check --readonly",
        };
        sh(&format!(
            "{check} {}/volumes/checked.img 2>&1",
            pool.display()
        ));
    }
}

/// All marks, and so many of the other points, spread evenly with an offset that the seed gives.
fn sample(points: Vec<Point>) -> Vec<Point> {
    let wanted = match std::env::var("LOVOL_REPLAYS") {
        Ok(all) if all == "all" => return points,
        _ => from_env("LOVOL_REPLAYS", 12),
    };
    let others = points.iter().filter(|point| !point.is_mark).count();
    let step = u64::try_from(others).unwrap().div_ceil(wanted).max(1);
    let mut left = Numbers(from_env("LOVOL_SEED", 1)).below(step);
    let mut is_taken = |point: &Point| {
        let is_turn = point.is_mark || left == 0;
        if !point.is_mark {
            left = left.checked_sub(1).unwrap_or(step - 1);
        }
        is_turn
    };
    points.into_iter().filter(|point| is_taken(point)).collect()
}

fn what_was_acknowledged_is_there(fs: &'static str, size: &str) {
    let recording = Recording::of(fs, size);
    let points = sample(recording.points());
    let marks = points.iter().filter(|point| point.is_mark).count();
    assert_eq!(marks, VERBS.len() + 1);
    assert!(points.len() > marks, "no flush was logged");
    recording.replay(&points);
}

#[test]
fn what_was_acknowledged_is_there_after_any_flush_xfs() {
    what_was_acknowledged_is_there("xfs", "300M");
}

#[test]
fn what_was_acknowledged_is_there_after_any_flush_ext4() {
    what_was_acknowledged_is_there("ext4", "40M");
}

#[test]
fn what_was_acknowledged_is_there_after_any_flush_btrfs() {
    what_was_acknowledged_is_there("btrfs", "120M");
}
