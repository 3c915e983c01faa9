//! Hitting lovol at one certain system call.
//!
//! strace counts the calls of one kind, and how many there are depends on how many loop devices
//! the machine has just now: so each shot is aimed by the log of the one before, and its own log
//! says whether it has hit.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::command::{Finished, Running};
use super::lovol::Lovol;
use super::pool::TestPool;
use super::unchanged::state;
use super::wait::wait_until;

/// How long lovol may take to get to the call.
const SOON: Duration = Duration::from_secs(20);

/// A shot takes tenths of a second, and some in a hundred hit on a busy machine.
pub(crate) const TO_AIM: Duration = Duration::from_secs(300);

/// What strace has written.
pub(crate) struct Trace {
    lines: Vec<String>,
}

impl Trace {
    #[track_caller]
    pub(crate) fn read(log: impl AsRef<Path>) -> Self {
        let text = fs::read(log).unwrap();
        let text = String::from_utf8_lossy(&text);
        let is_call = |line: &&str| line.starts_with(|c: char| c.is_ascii_alphabetic());
        Self {
            lines: text.lines().filter(is_call).map(str::to_owned).collect(),
        }
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// How many calls strace has changed.
    pub(crate) fn injected(&self) -> usize {
        let lines = self.lines.iter();
        lines.filter(|line| line.contains("(INJECTED)")).count()
    }

    /// Which of the ioctls is a clone at this moment, counted from 1.
    fn clone_at(&self, moment: Moment) -> Option<usize> {
        let ioctls = self.lines.iter().filter(|line| line.starts_with("ioctl("));
        let mut is_frozen = false;
        for (at, line) in ioctls.enumerate() {
            is_frozen |= line.contains("FIFREEZE");
            if line.contains("FICLONERANGE") && is_frozen == (moment == Moment::Frozen) {
                return Some(at + 1);
            }
        }
        None
    }
}

/// When lovol clones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// In the pre-clone, while the guest is in use.
    Unfrozen,
    /// Inside the freeze.
    Frozen,
}

/// A shot that has hit.
pub(crate) struct Hit {
    pub(crate) finished: Finished,
    /// The snapshot that was being taken.
    pub(crate) snapshot: String,
    /// The pool as it was just before.
    pub(crate) before: BTreeSet<String>,
}

/// Runs `snapshot home@NAME` so that strace does `what` to its first clone at that moment.
///
/// `change` prepares each of these lovols.
#[track_caller]
pub(crate) fn strike(
    pool: &TestPool,
    moment: Moment,
    what: &str,
    change: impl Fn(Lovol) -> Lovol,
) -> Hit {
    let log = pool.temp().join("strike");
    let shoot = |snapshot: &str, options: &str| {
        let command = pool.lovol("snapshot").arg(format!("home@{snapshot}"));
        let finished = change(command.strace(&log, options)).finish();
        (finished, Trace::read(&log))
    };
    let mut aim = None;
    let (mut attempt, begun) = (0, Instant::now());
    loop {
        attempt += 1;
        assert!(
            begun.elapsed() < TO_AIM,
            "no shot of {attempt} has hit the clone ({moment:?})"
        );
        let Some(at) = aim else {
            let rehearsal = format!("rehearsal{attempt}");
            let (_, trace) = shoot(&rehearsal, "-e trace=ioctl");
            aim = trace.clone_at(moment);
            forget(pool, &rehearsal);
            continue;
        };
        let snapshot = format!("shot{attempt}");
        let before = state(pool);
        let options = format!("-e trace=ioctl -e inject=ioctl:{what}:when={at}");
        let (finished, trace) = shoot(&snapshot, &options);
        aim = trace.clone_at(moment);
        if aim == Some(at) {
            return Hit {
                finished,
                snapshot,
                before,
            };
        }
        forget(pool, &snapshot);
    }
}

/// Whatever became of it.
#[track_caller]
fn forget(pool: &TestPool, snapshot: &str) {
    if pool.snapshot_image("home", snapshot).exists() {
        let snapshot = format!("home@{snapshot}");
        pool.lovol("delete").arg(snapshot).ok_any();
    }
}

/// The children of a process.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let path: PathBuf = format!("/proc/{pid}/task/{pid}/children").into();
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// Gone, or with nothing left but its exit code.
pub(crate) fn is_dead(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default();
    state.trim_start().is_empty() || state.trim_start().starts_with('Z')
}

/// Waits until strace holds lovol at the call with one of these numbers, to let it go later.
#[track_caller]
pub(crate) fn wait_until_delayed(running: &Running, calls: &[&str]) {
    wait_until("it is held", SOON, || {
        let Some(main) = children(running.pid().as_raw()).first().copied() else {
            return false;
        };
        let Ok(first) = fs::read_to_string(format!("/proc/{main}/syscall")) else {
            return stands_still(main);
        };
        let is_one = calls.contains(&first.split(' ').next().unwrap_or_default());
        std::thread::sleep(Duration::from_millis(30));
        is_one
            && fs::read_to_string(format!("/proc/{main}/syscall")).is_ok_and(|call| call == first)
    });
}

/// User-mode Linux does not tell in which call a process is: there, one that its tracer has stopped for
/// so long is held.
fn stands_still(pid: i32) -> bool {
    let status = || fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let first = status();
    std::thread::sleep(Duration::from_millis(500));
    first.contains("\nState:\tt ") && status() == first
}
