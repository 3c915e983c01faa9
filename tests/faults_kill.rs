//! SIGKILL, or an error, at any system call of a verb: what was there before is untouched, nothing is
//! frozen or leaked, and after `check --repair` at most, index and images agree.  After an error the
//! verb has failed and left nothing, or done its work whole.
//!
//! A few calls of each verb, picked by `$LOVOL_FAULTS_SEED`; `LOVOL_FAULTS=all` takes every one.
//! A new verb registers itself at the end of this file, and gets all of it.

use std::fs;
use std::time::Duration;

use crate::support::{Finished, Lovol, Round, TestPool, Thaw, Trace, tally, wait_until};

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
            // Killed there or not, it is over; and what is said to people is not what is done.
            let is_said = line.starts_with("write(1,") || line.starts_with("write(2,");
            if is_begun && name != "exit_group" && !is_said {
                calls.push(Self {
                    name: name.to_owned(),
                    nth: *nth,
                });
            }
        }
        calls
    }

    /// strace's word for it, with `what` done to it.
    fn options(&self, what: &str) -> String {
        format!("-e inject={}:{what}:when={}", self.name, self.nth)
    }

    /// An error that the kernel may give there; nothing where it gives none.
    fn error(&self, round: usize) -> Option<&'static str> {
        const ANY: [&str; 3] = ["error=EIO", "error=ENOSPC", "error=EINTR"];
        let errors: &[&str] = match self.name.as_str() {
            "openat" | "openat2" | "write" | "pwrite64" | "ftruncate" | "fallocate" | "ioctl"
            | "fsync" => &ANY,
            "mkdirat" | "linkat" | "renameat2" | "fsetxattr" | "clone" | "pipe2" => &ANY[..2],
            "lseek" | "unlinkat" | "fchmod" | "fgetxattr" | "syncfs" | "statx" | "newfstatat"
            | "fstat" | "getdents64" | "flock" | "mount" | "umount2" | "fsopen" | "fsconfig"
            | "fsmount" => &ANY[..1],
            _ => return None,
        };
        Some(errors[round % errors.len()])
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

    /// Runs the verb once to see its calls, then once for each of a sample, with `fault` in it.
    ///
    /// `fault` tells what strace is to do to a call in a round; `judge` what must be so after it.
    #[track_caller]
    fn at_any_call(
        &self,
        verb: &Verb,
        fault: impl Fn(&Call, usize) -> Option<&'static str>,
        judge: impl Fn(&Self, &Finished, usize) -> bool,
    ) {
        let log = self.pool.temp().join("strace");
        let shoot = |round: usize, options: &str| {
            for words in verb.prepare {
                self.run(words, round).ok_any();
            }
            let command = self.run(verb.words, round).strace(&log, options);
            self.marked(command).finish()
        };
        shoot(0, "").expect_success();
        let calls = Call::all(&Trace::read(&log), &self.pool);
        let calls = calls
            .into_iter()
            .filter(|call| fault(call, 0).is_some())
            .collect();
        let calls = sample(calls);
        let mut hits = 0;
        for (round, call) in calls.iter().enumerate() {
            let round = round + 1;
            let what = fault(call, round).unwrap();
            let finished = shoot(round, &call.options(what));
            let _round = Round::of(format!("{round}: {call:?} {what} {finished}"));
            hits += usize::from(judge(self, &finished, round));
            self.must_be_sound();
            self.must_have_one_of(verb.states, round);
        }
        // A call more or less in another run: not every shot hits.
        assert!(hits * 2 > calls.len(), "{hits} of {} hit", calls.len());
        assert_eq!(Self::kept(&self.pool), self.kept);
        tally(&format!("{} at a system call", verb.words), hits);
    }

    /// Kills the verb at each call of a sample.
    #[track_caller]
    fn killed_at_any_call(&self, verb: &Verb) {
        self.at_any_call(
            verb,
            |_, _| Some("signal=KILL"),
            |_, finished, _| finished.signal() == Some(9),
        );
    }

    /// Lets each call of a sample fail: the verb fails too and leaves nothing, or is done.
    #[track_caller]
    fn fails_at_any_call(&self, verb: &Verb) {
        let judge = |victim: &Self, finished: &Finished, round: usize| {
            let has_hit = Trace::read(victim.pool.temp().join("strace")).injected() > 0;
            match finished.code() {
                Some(0) => assert!(
                    victim.exists(verb.result, round),
                    "success, and nothing done"
                ),
                // 101: the standard library panics where its pipes to a tool fail.
                Some(1 | 101) => assert!(
                    !victim.exists(verb.result, round),
                    "failed, and something done"
                ),
                // Begun, not to be taken back, and finished by the check.
                Some(4) => {}
                _ => panic!("neither success nor failure"),
            }
            has_hit
        };
        self.at_any_call(verb, Call::error, judge);
    }

    fn exists(&self, name: &str, round: usize) -> bool {
        let name = name.replace("{}", &round.to_string());
        let (is_wanted, name) = match name.strip_prefix('!') {
            Some(name) => (false, name.to_owned()),
            None => (true, name),
        };
        let found = self
            .pool
            .sh(&format!("compgen -G \"$POOL/{name}\" || true"));
        is_wanted != found.is_empty()
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

/// A verb that changes something; `{}` is the number of the round.
struct Verb {
    /// What makes what it needs.
    prepare: &'static [&'static str],
    words: &'static str,
    /// What is there when it is done; with `!`, what is not.
    result: &'static str,
    /// Of these, exactly one must be there whatever happens.
    states: &'static [&'static str],
}

const TRASHED: &[&str] = &["create a{} 1M --fs none", "snapshot a{}@s", "delete -r a{}"];
const WITH_SNAPSHOT: &[&str] = &["create a{} 1M --fs none", "snapshot a{}@s"];

mod verbs {
    use super::{TRASHED, Verb, WITH_SNAPSHOT};

    pub(super) const CREATE: Verb = Verb {
        prepare: &[],
        words: "create v{} 20M --fs ext4",
        result: "volumes/v{}.img",
        states: &[],
    };
    pub(super) const SNAPSHOT: Verb = Verb {
        prepare: &[],
        words: "snapshot home@s{}",
        result: "snapshots/home/s{}.img",
        states: &[],
    };
    pub(super) const GROUP: Verb = Verb {
        prepare: &[],
        words: "snapshot home@s{} other@s{}",
        result: "snapshots/other/s{}.img",
        states: &[],
    };
    pub(super) const CLONE: Verb = Verb {
        prepare: &[],
        words: "clone home@keep c{}",
        result: "volumes/c{}.img",
        states: &[],
    };
    pub(super) const RENAME: Verb = Verb {
        prepare: WITH_SNAPSHOT,
        words: "rename a{} b{}",
        result: "volumes/b{}.img",
        states: &["volumes/a{}.img", "volumes/b{}.img"],
    };
    pub(super) const DELETE: Verb = Verb {
        prepare: WITH_SNAPSHOT,
        words: "delete -r a{}",
        result: "trash/a{}@*/volume.img",
        states: &["volumes/a{}.img", "trash/a{}@*/volume.img"],
    };
    pub(super) const DELETE_SNAPSHOTS: Verb = Verb {
        prepare: &["snapshot other@a{}", "snapshot other@b{}"],
        words: "delete other@a{}%b{}",
        result: "!snapshots/other/a{}.img",
        states: &["volumes/other.img"],
    };
    pub(super) const UNDELETE: Verb = Verb {
        prepare: TRASHED,
        words: "undelete a{}",
        result: "volumes/a{}.img",
        states: &["volumes/a{}.img", "trash/a{}@*/volume.img"],
    };
    pub(super) const PURGE: Verb = Verb {
        prepare: TRASHED,
        words: "purge -y a{}",
        result: "!trash/a{}@*",
        states: &["volumes/home.img"],
    };
    pub(super) const REPAIR: Verb = Verb {
        prepare: &["create r{} 1M --fs none"],
        words: "check --repair",
        result: "volumes/r{}.img",
        states: &["volumes/r{}.img"],
    };
}

/// Two tests for each verb: killed, and failing.
macro_rules! at_any_call {
    ($($name:ident: $verb:ident;)*) => {
        mod killed {
            use super::*;
            $(#[test] fn $name() { Victim::new().killed_at_any_call(&verbs::$verb); })*
        }
        mod failing {
            use super::*;
            $(#[test] fn $name() { Victim::new().fails_at_any_call(&verbs::$verb); })*
        }
    };
}

at_any_call! {
    create: CREATE;
    snapshot: SNAPSHOT;
    group_snapshot: GROUP;
    clone: CLONE;
    rename: RENAME;
    delete: DELETE;
    delete_of_snapshots: DELETE_SNAPSHOTS;
    undelete: UNDELETE;
    purge: PURGE;
}

#[test]
fn check_with_repair_is_killed_at_any_call() {
    Victim::new().killed_at_any_call(&verbs::REPAIR);
}
