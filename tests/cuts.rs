//! Power cuts: the pool's own disk is an image that is cloned at random moments, by one call.  Such
//! a clone is what a power cut leaves: everything that was completed, and nothing else.
//!
//! A worker changes files in mounted guests, runs verbs, and notes which are acknowledged.  After
//! each cut the clone is mounted, XFS recovers, and what lovol then finds must be the state after
//! one of the verbs between the last that was acknowledged before the cut and the last that was
//! begun when it was over.  Then every image in it is looked into: its guest replays its log, holds
//! exactly the files that were there when it was taken, and passes its fsck.
//!
//! 20 cuts here; `LOVOL_CUTS=500 LOVOL_SEED=7` for the long run.

mod choose;
mod look;
mod state;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::{Lovol, Numbers, Round, TestPool, from_env, lovol, tally, wait_until};
use state::State;
use work::{Log, Worker};

/// In MiB.
const HOME_SIZE: u64 = 320;

/// The disk, its pool, and two volumes in it that are mounted.
struct Bed {
    outer: TestPool,
    pool: PathBuf,
    homes: [Home; 2],
}

#[derive(Clone)]
struct Home {
    name: &'static str,
    fs: &'static str,
    dir: PathBuf,
}

impl Bed {
    fn new(fs: &'static str) -> Self {
        let outer = TestPool::raw();
        let pool = outer.dir("inner");
        outer.sh("truncate -s 3G $POOL/disk; mkfs.xfs -q $POOL/disk; mount $(losetup -f --show --direct-io=on $POOL/disk) $TEMP/inner");
        let other = match fs {
            "xfs" => "ext4",
            "ext4" => "btrfs",
            _ => "xfs",
        };
        let home = |name, fs| Home {
            name,
            fs,
            dir: outer.dir(name),
        };
        let homes = [home("home", fs), home("var", other)];
        let bed = Self { outer, pool, homes };
        bed.lovol("init").ok_any();
        for Home { name, fs, dir } in &bed.homes {
            bed.lovol(&format!("create {name} {HOME_SIZE}M --fs {fs}"))
                .ok_any();
            bed.lovol(&format!("mount {name}")).arg(dir).ok("");
        }
        bed
    }

    fn lovol(&self, words: &str) -> Lovol {
        lovol(words).env("LOVOL_POOL", &self.pool)
    }

    /// Cuts the power, looks at what is there, and compares.
    fn cut(&self, log: &Log, number: u64, numbers: &mut Numbers) {
        let before = log.acknowledged.load(Ordering::SeqCst);
        self.outer.sh("cp --reflink=always $POOL/disk $POOL/cut");
        let after = log.begun.load(Ordering::SeqCst);
        let dir = self.outer.dir("cut");
        self.outer.sh("mount -o loop,nouuid $POOL/cut $TEMP/cut");
        lovol("check --repair").env("LOVOL_POOL", &dir).ok("");
        let found = State::of_pool(&dir);
        let states = log.states.lock().unwrap()[before..=after].to_vec();
        let _round = Round::of(format!("cut {number}: {found:#?}"));
        let Some(expected) = states.iter().find(|state| state.notes() == found) else {
            panic!("that is none of {states:#?}");
        };
        look::into_all(&self.outer, &dir, expected, numbers);
        // A copy of the mount table in another test's namespace may hold the view for a moment.
        wait_until("the cut is unmounted", Duration::from_secs(60), || {
            self.outer
                .sh("umount $TEMP/cut 2> /dev/null && echo gone || true")
                == "gone"
        });
        self.outer.sh("rm $POOL/cut");
    }
}

fn cuts(fs: &'static str) {
    let count = from_env("LOVOL_CUTS", 20).div_ceil(3);
    let seed = from_env("LOVOL_SEED", 1);
    let bed = Bed::new(fs);
    let log = Arc::new(Log::new(&bed.homes));
    let worker = Worker::new(&bed, &log, Numbers(seed));
    let working = std::thread::spawn(move || worker.run());
    let mut numbers = Numbers(!seed);
    for number in 0..count {
        // At random moments: how long it takes until the next cut is part of the randomness.
        std::thread::sleep(Duration::from_millis(numbers.below(200)));
        assert!(!working.is_finished(), "the worker failed");
        let tried = tally(&format!("power cuts, {fs} guest"), 1);
        bed.cut(&log, number, &mut numbers);
        tried.survived();
    }
    log.is_over.store(true, Ordering::SeqCst);
    working.join().unwrap();
    bed.lovol("check").ok("");
}

#[test]
fn after_a_power_cut_what_was_acknowledged_is_there_xfs() {
    cuts("xfs");
}

#[test]
fn after_a_power_cut_what_was_acknowledged_is_there_ext4() {
    cuts("ext4");
}

#[test]
fn after_a_power_cut_what_was_acknowledged_is_there_btrfs() {
    cuts("btrfs");
}
