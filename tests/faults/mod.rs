//! An error, or SIGKILL, at any system call of any verb that changes something, while the guest is
//! mounted and written to all the time: nothing is frozen or left, earlier snapshots are what they
//! were, the verb's work is whole or not there, and after `check --repair` at most all is well.
//!
//! ```text
//! verbs     which there are, what they need, and by what they are known to be done
//! calls     which system calls a run has, and what can become of each
//! bed       the pool and the guests that they work on
//! judge     what must be so after each case
//! guardian  the same when lovol's guardian dies with it
//! sweep     all is as before again
//! ```
//! A case is one fault at one call of one verb on one guest:
//!
//! - an error, each that the call may give of EIO, ENOSPC and EINTR;
//! - the kill, before each call that does something: before one that only looks it would leave the
//!   same;
//! - lovol and its guardian killed, behind each such call while the guardian lives.
//!
//! A row of calls that look at all loop devices one after the other counts as one.  A shot that goes
//! wide, as other tests attach devices meanwhile, is judged and counted for what it has hit, and
//! aimed anew.
//!
//! A few cases of each verb on each guest, picked by `$LOVOL_FAULTS_SEED`; `LOVOL_FAULTS=N` takes N,
//! and `LOVOL_FAULTS=all` every one: some 50,000 cases, in hours.  A case that is lost is said on stderr, and
//! the others go on.

mod bed;
mod calls;
mod guardian;
mod judge;
mod sweep;
mod verbs;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::support::{Numbers, Round, from_env, in_own_namespace, tally};
use bed::{Bed, Guest};
use calls::{Call, Fault, with_guardian};
use guardian::Left;
use verbs::Verb;

/// How many cases of a verb are tried.
const SAMPLE: usize = 8;

/// How often a call is aimed at anew after a miss.
const TRIES: usize = 8;

/// With so many lost, the others tell no more.
const TOO_MANY: usize = 20;

/// A test of each verb on each guest.
macro_rules! on_each_guest {
    ($($verb:ident),* $(,)?) => {
        on_each_guest! { xfs: &[Guest::Xfs]; $($verb),* }
        on_each_guest! { ext4: &[Guest::Ext4]; $($verb),* }
        on_each_guest! { btrfs: &[Guest::Btrfs]; $($verb),* }
    };
    ($name:ident: $guests:expr; $($verb:ident),*) => {
        mod $name {
            use super::{Campaign, Guest, verbs};
            $(#[test] fn $verb() { Campaign::run($guests, verbs::$verb()); })*
        }
    };
}

on_each_guest! {
    create, create_from_an_image, create_by_copying_an_image, create_by_moving_an_image,
    snapshot, crash_snapshot,
    clone_of_snapshot, clone_of_mounted_volume, clone_in_place_of_another,
    clone_from_path_to_path, clone_in_place_of_a_path,
    rename, rename_of_snapshot,
    delete, delete_now, delete_of_snapshots, undelete, purge,
    mount, mount_by_helper, remount_by_helper, umount, attach, detach,
    init, init_on_an_image, growth_of_a_pool,
    provision_of_a_volume, provision_of_a_copy, provision_of_a_size, provision_of_a_mount,
    provision_of_a_property,
    resize, prune, trim, set, set_of_the_pool, hold, release, protect, watch, restore,
    rollback, rollback_of_mounted_volume, rollback_at_the_next_mount, mount_that_rolls_back,
    undo_of_a_rollback,
    repair_of_the_index, repair_of_a_frozen_guest,
}

// What not every guest can, or not in every container.
on_each_guest! {
    xfs_only: &[Guest::Xfs]; resize_of_mounted_volume
}

on_each_guest! {
    ext4_only: &[Guest::Ext4]; resize_to_less
}

on_each_guest! {
    btrfs_only: &[Guest::Btrfs]; resize_of_mounted_volume, resize_of_mounted_volume_to_less
}

on_each_guest! {
    groups: &[Guest::Xfs, Guest::Ext4, Guest::Btrfs]; group_snapshot
}

/// One fault at one call.
#[derive(Clone, Debug)]
struct Case {
    call: Call,
    fault: Fault,
}

/// All cases of one verb.
struct Campaign {
    guests: &'static [Guest],
    verb: Verb,
    bed: Bed,
    /// The calls of the last run without a fault.
    calls: Vec<Call>,
    missed: usize,
    frozen: usize,
}

impl Campaign {
    #[track_caller]
    fn run(guests: &'static [Guest], verb: Verb) {
        in_own_namespace(move || {
            let mut campaign = Self {
                guests,
                verb,
                bed: Bed::new(guests),
                calls: Vec::new(),
                missed: 0,
                frozen: 0,
            };
            campaign.rehearse();
            let (both, mut cases) = (campaign.with_guardian(), campaign.cases());
            cases.extend(both.iter().cloned());
            let lost = cases
                .iter()
                .filter(|case| !campaign.survives(case))
                .take(TOO_MANY)
                .count();
            assert_eq!(lost, 0, "lost, of {} cases", cases.len());
            assert!(
                campaign.missed * 2 <= cases.len(),
                "{} missed of {}",
                campaign.missed,
                cases.len()
            );
            assert!(
                both.is_empty() || campaign.frozen > 0,
                "nothing was ever left frozen"
            );
            campaign.bed.must_have_kept_all();
        });
    }

    /// Runs the verb without a fault, to see its calls.
    #[track_caller]
    fn rehearse(&mut self) {
        let before = self.bed.prepare(&self.verb);
        let (finished, trace) = self.bed.shoot(&self.verb, "");
        finished.expect_success();
        self.calls = Call::all(&trace);
        assert!(self.bed.is_done(&self.verb, &before));
        self.bed.must_recover(&self.verb, &before, true);
    }

    fn cases(&self) -> Vec<Case> {
        let of = |call: &Call| -> Vec<Case> {
            let case = |fault| Case {
                call: call.clone(),
                fault,
            };
            call.faults().into_iter().map(case).collect()
        };
        // Of a row of devices the last one stands for all.
        let is_last = |(at, call): &(usize, &Call)| {
            !self.calls[at + 1..]
                .iter()
                .any(|other| other.is_alike(call))
        };
        let calls = self.calls.iter().enumerate().filter(is_last);
        self.sample(calls.flat_map(|(_, call)| of(call)).collect(), SAMPLE)
    }

    /// While the guardian lives: always with one at which the guest is frozen.
    fn with_guardian(&self) -> Vec<Case> {
        let case = |call: Call| Case {
            call,
            fault: Fault::KilledWithGuardian,
        };
        let cases: Vec<Case> = with_guardian(&self.calls).into_iter().map(case).collect();
        let freeze = cases
            .iter()
            .find(|case| case.call.does("FIFREEZE"))
            .cloned();
        let mut sample = self.sample(cases, SAMPLE / 4);
        if sample.iter().all(|case| !case.call.does("FIFREEZE")) {
            sample.extend(freeze);
        }
        sample
    }

    /// Some of them, picked by the seed; or all.
    fn sample(&self, mut cases: Vec<Case>, count: usize) -> Vec<Case> {
        let count = match std::env::var("LOVOL_FAULTS").as_deref() {
            Ok("all") => return cases,
            Ok(number) => number.parse().unwrap(),
            Err(_) => count,
        };
        let own: u64 = self.name().bytes().map(u64::from).sum();
        let mut numbers = Numbers(from_env("LOVOL_FAULTS_SEED", 7) << 16 | own);
        let mut sample = Vec::new();
        while sample.len() < count && !cases.is_empty() {
            let number = numbers.below(u64::try_from(cases.len()).unwrap());
            sample.push(cases.swap_remove(usize::try_from(number).unwrap()));
        }
        sample
    }

    fn name(&self) -> String {
        let guests: Vec<_> = self.guests.iter().map(|guest| guest.name()).collect();
        format!("{} on {}", self.verb.words, guests.join(", "))
    }

    /// Whether all is well after it; if not, it is said, and there is a new bed for the next.
    fn survives(&mut self, case: &Case) -> bool {
        let result = catch_unwind(AssertUnwindSafe(|| self.try_case(case)));
        if result.is_err() {
            say(&format!("lost: {}: {case:?}", self.name()));
            let old = std::mem::replace(&mut self.bed, Bed::new(self.guests));
            // What cannot be cleaned up belongs to the same loss.
            catch_unwind(AssertUnwindSafe(|| drop(old))).ok();
        }
        result.is_ok()
    }

    #[track_caller]
    fn try_case(&mut self, case: &Case) {
        let guest = match self.guests {
            [guest] => guest.name(),
            _ => "every",
        };
        let what = format!("{}, {guest} guest", case.fault.shown());
        for _ in 0..TRIES {
            let is_it = |call: &&Call| call.is_alike(&case.call);
            let Some(aim) = self.calls.iter().rfind(is_it).cloned() else {
                // It was about a device of somebody else, which is gone.
                return;
            };
            let tried = tally(&what, 1);
            let hit = self.shoot(&aim, case.fault);
            match &hit {
                Some(_) => tried.survived(),
                None => tried.never_was(),
            }
            if hit.is_some_and(|hit| hit.is_alike(&case.call)) {
                return;
            }
            self.rehearse();
        }
        say(&format!("missed: {}: {case:?}", self.name()));
        self.missed += 1;
    }

    /// Tries and judges; returns the call that was hit.
    #[track_caller]
    fn shoot(&mut self, aim: &Call, fault: Fault) -> Option<Call> {
        let before = self.bed.prepare(&self.verb);
        let (finished, trace, has_guardian) = if fault == Fault::KilledWithGuardian {
            self.bed.kill_both(&self.verb, aim)
        } else {
            let options = aim.options(fault, &self.bed.roots());
            let (finished, trace) = self.bed.shoot(&self.verb, &options);
            (finished, trace, false)
        };
        let _round = Round::of(format!("{finished}{}", trace.lines().join("\n")));
        if has_guardian {
            let left = self.bed.judge_killed_both(&self.verb, &before);
            self.frozen += usize::from(left == Left::Frozen);
        } else {
            self.bed.judge(&self.verb, &finished, &before);
            if fault == Fault::KilledWithGuardian {
                return None;
            }
        }
        aim.hit_among(&Call::all(&trace))
    }
}

/// At once, while the test goes on.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}
