//! SIGKILL at any system call of a verb: what was there before is untouched, nothing is frozen or
//! leaked, and after `check --repair` at most, index and images agree.
//!
//! A few calls of each verb, picked by `$LOVOL_FAULTS_SEED`; `LOVOL_FAULTS=all` takes every one.

use std::fs;
use std::time::Duration;

use crate::support::{Lovol, Round, TestPool, Thaw, Trace, wait_until};

/// How many calls of each verb are tried.
const SAMPLE: usize = 10;

/// How long what a killed lovol has left running (its guardian, a mkfs) may take to go.
const SOON: Duration = Duration::from_secs(10);

/// One system call of a trace: the Nth of its name.
#[derive(Clone, Debug)]
struct Call {
    name: String,
    nth: usize,
}

impl Call {
    /// All of them, from the first that knows the pool: before that there is only the loader.
    fn all(trace: &Trace, pool: &TestPool) -> Vec<Self> {
        let mut counts = std::collections::HashMap::<&str, usize>::new();
        let mut calls = Vec::new();
        let mut is_begun = false;
        for line in trace.lines() {
            let name = line.split('(').next().unwrap();
            let nth = counts.entry(name).or_default();
            *nth += 1;
            is_begun |= !line.starts_with("exec") && line.contains(pool.path().to_str().unwrap());
            // Killed there or not, it is over.
            if is_begun && name != "exit_group" {
                calls.push(Self {
                    name: name.to_owned(),
                    nth: *nth,
                });
            }
        }
        calls
    }

    fn options(&self) -> String {
        format!("-e inject={}:signal=KILL:when={}", self.name, self.nth)
    }
}

/// Evenly spread over the whole run, with an offset that the seed gives.
fn sample(calls: Vec<Call>) -> Vec<Call> {
    if std::env::var("LOVOL_FAULTS").is_ok_and(|value| value == "all") {
        return calls;
    }
    let seed = std::env::var("LOVOL_FAULTS_SEED").map_or(7, |seed| seed.parse().unwrap());
    let step = calls.len() / SAMPLE;
    calls.into_iter().skip(seed % step).step_by(step).collect()
}

/// A pool with a mounted volume `home`, its snapshot `home@keep`, and what must not change.
struct Victim {
    pool: TestPool,
    kept: String,
}

impl Victim {
    #[track_caller]
    fn new() -> Self {
        let pool = TestPool::new();
        pool.dir("run");
        pool.mounted("home", "20M --fs ext4");
        pool.sh("echo precious > $TEMP/home/letter");
        pool.lovol("snapshot home@keep").ok_any();
        pool.lovol("create other 20M --fs ext4").ok_any();
        pool.lovol("snapshot other@keep").ok_any();
        let kept = Self::kept(&pool);
        Self { pool, kept }
    }

    #[track_caller]
    fn kept(pool: &TestPool) -> String {
        pool.sh("sha256sum $POOL/snapshots/home/keep.img $POOL/snapshots/other/keep.img")
    }

    fn marked(&self, command: Lovol) -> Lovol {
        command.with_markers_in(self.pool.temp().join("run"))
    }

    #[track_caller]
    fn run(&self, words: &str, round: usize) -> Lovol {
        self.pool.lovol(&words.replace("{}", &round.to_string()))
    }

    /// Kills `verb` at each call of a sample; `{}` is the number of the round.
    ///
    /// `prepare` makes what it needs; `names` are what exactly one of must be in the pool after,
    /// as paths.
    #[track_caller]
    fn killed_at_any_call(&self, prepare: &[&str], verb: &str, names: &[&str]) {
        let log = self.pool.temp().join("strace");
        let shoot = |round: usize, options: &str| {
            for words in prepare {
                self.run(words, round).ok_any();
            }
            let command = self.run(verb, round).strace(&log, options);
            self.marked(command).finish()
        };
        shoot(0, "").expect_success();
        let calls = sample(Call::all(&Trace::read(&log), &self.pool));
        let mut killed = 0;
        for (round, call) in calls.iter().enumerate() {
            let round = round + 1;
            let finished = shoot(round, &call.options());
            killed += usize::from(finished.signal() == Some(9));
            let _round = Round::of(format!("{round}: {call:?} {finished}"));
            self.must_be_sound();
            self.must_have_one_of(names, round);
        }
        // A call more or less in another run: not every shot hits.
        assert!(killed * 2 > calls.len(), "{killed} of {} hit", calls.len());
        assert_eq!(Self::kept(&self.pool), self.kept);
    }

    #[track_caller]
    fn must_be_sound(&self) {
        let mut thaw = Thaw::later(self.pool.dir("home"), SOON);
        fs::write(self.pool.dir("home").join("probe"), "writable").unwrap();
        assert!(!thaw.has_come(), "it was frozen until the test thawed it");
        drop(thaw);
        wait_until("only home is attached", SOON, || {
            self.pool.loops().len() == 1 && self.pool.mounts().len() == 1
        });
        // Its guardian may still hold the lock of its marker.
        let repair = self.pool.lovol("check --repair");
        self.marked(repair).ok("");
        let check = self.pool.lovol("check");
        self.marked(check).ok("");
        self.pool.lovol("show home@keep").ok_any();
    }

    #[track_caller]
    fn must_have_one_of(&self, names: &[&str], round: usize) {
        if names.is_empty() {
            return;
        }
        let found: Vec<String> = names
            .iter()
            .map(|name| name.replace("{}", &round.to_string()))
            .filter(|name| {
                let script = format!("compgen -G \"$POOL/{name}\" || true");
                !self.pool.sh(&script).is_empty()
            })
            .collect();
        assert_eq!(found.len(), 1, "{found:?} of {names:?}");
    }
}

#[test]
fn create_is_killed_at_any_call() {
    Victim::new().killed_at_any_call(&[], "create v{} 20M --fs ext4", &[]);
}

#[test]
fn snapshot_is_killed_at_any_call() {
    Victim::new().killed_at_any_call(&[], "snapshot home@s{}", &[]);
}

#[test]
fn clone_is_killed_at_any_call() {
    Victim::new().killed_at_any_call(&[], "clone home@keep c{}", &[]);
}

#[test]
fn rename_is_killed_at_any_call() {
    Victim::new().killed_at_any_call(
        &["create a{} 1M --fs none", "snapshot a{}@s"],
        "rename a{} b{}",
        &["volumes/a{}.img", "volumes/b{}.img"],
    );
}

#[test]
fn delete_is_killed_at_any_call() {
    Victim::new().killed_at_any_call(
        &["create a{} 1M --fs none", "snapshot a{}@s"],
        "delete -r a{}",
        &["volumes/a{}.img", "trash/a{}@*/volume.img"],
    );
}

#[test]
fn delete_of_snapshots_is_killed_at_any_call() {
    Victim::new().killed_at_any_call(
        &["snapshot other@a{}", "snapshot other@b{}"],
        "delete other@a{}%b{}",
        &["volumes/other.img"],
    );
}

#[test]
fn undelete_is_killed_at_any_call() {
    Victim::new().killed_at_any_call(
        &["create a{} 1M --fs none", "snapshot a{}@s", "delete -r a{}"],
        "undelete a{}",
        &["volumes/a{}.img", "trash/a{}@*/volume.img"],
    );
}

#[test]
fn purge_is_killed_at_any_call() {
    Victim::new().killed_at_any_call(
        &["create a{} 1M --fs none", "snapshot a{}@s", "delete -r a{}"],
        "purge -y a{}",
        &["volumes/home.img"],
    );
}
