//! lovol and its guardian are both killed, at each call while the guardian lives: then nobody is
//! left who could thaw, `check` says so, and `check --repair` thaws.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bed::{Bed, Before};
use super::calls::{Call, Fault};
use super::verbs::Verb;
use crate::support::{Finished, Running, Trace, children, is_dead, wait_until};

/// Being stopped, and dying, takes no longer.
const SOON: Duration = Duration::from_secs(10);

/// How long lovol may take to get to the call, on a kernel that is a process as well.
const TO_GET_THERE: Duration = Duration::from_secs(60);

/// What was found when both were dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Frozen,
    Thawed,
}

impl Bed {
    /// Stops the verb behind this call, and kills its guardian and it.
    ///
    /// Tells also whether the guardian was there: the shot may go wide.
    #[track_caller]
    pub(super) fn kill_both(&mut self, verb: &Verb, call: &Call) -> (Finished, Trace, bool) {
        // Another one's would look like this one's.
        fs::remove_file(self.log()).ok();
        let options = call.options(Fault::KilledWithGuardian, &self.roots());
        let mut running = self.lovol(verb.words).strace(self.log(), &options).start();
        let has_stopped = |log: String| log.contains("--- stopped by SIGSTOP");
        wait_until("it stops", TO_GET_THERE, || {
            fs::read_to_string(self.log()).is_ok_and(has_stopped) || !running.is_running()
        });
        let has_guardian = running.is_running() && kill_all(&running);
        (running.finish(), Trace::read(self.log()), has_guardian)
    }

    /// What is frozen is said and thawed; whatever was begun is not there.
    #[track_caller]
    pub(super) fn judge_killed_both(&mut self, verb: &Verb, before: &Before) -> Left {
        self.must_use_nothing_but(verb);
        let writes = self.writes();
        let checked = self.lovol("check -J").finish();
        let now = self.writes();
        let found: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
        let findings = found["findings"].as_array().unwrap();
        let is_frozen = |finding: &serde_json::Value| finding["kind"] == "frozen";
        assert!(findings.iter().all(is_frozen), "{checked}");
        assert_eq!(
            checked.code(),
            Some(i32::from(!findings.is_empty())),
            "{checked}"
        );
        if findings.is_empty() {
            // Or it was not said.
            self.must_be_written_to();
        }
        self.must_recover(verb, before, false);
        assert!(
            verb.is_repeatable || !self.is_done(verb, before),
            "killed, and done"
        );
        // A write that was under way may have ended.
        let stands_still = writes
            .iter()
            .zip(now)
            .any(|(before, now)| now <= before + 1);
        if stands_still && !findings.is_empty() {
            Left::Frozen
        } else {
            Left::Thawed
        }
    }
}

/// The guardian first: it would thaw when lovol is dead.  Tells whether there was one.
#[track_caller]
fn kill_all(strace: &Running) -> bool {
    let [main] = children(strace.pid().as_raw())[..] else {
        panic!("strace has not one child");
    };
    let guardian = children(main);
    assert!(guardian.len() <= 1, "{guardian:?}");
    for pid in guardian.iter().copied().chain([main]) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        wait_until("it is dead", SOON, || is_dead(pid));
    }
    !guardian.is_empty()
}
