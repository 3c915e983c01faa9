//! Power cuts: the pool's own disk is an image that is cloned at random moments, by one call.  Such
//! a clone is what a power cut leaves: everything that was completed, and nothing else.
//!
//! A worker runs verbs and notes which are acknowledged.  After each cut the clone is mounted, XFS
//! recovers, and what lovol then finds must be the state after one of the verbs between the last
//! that was acknowledged before the cut and the last that was begun when it was over.
//!
//! 20 cuts here; `LOVOL_CUTS=500 LOVOL_SEED=7` for the long run.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Lovol, TestPool, lovol, sh, tally, wait_until};

type Names = BTreeSet<String>;

/// A small generator of numbers, the same each time for the same seed (splitmix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

pub(crate) fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What the worker has done, and what is to be there after each of its verbs.
#[derive(Default)]
struct Log {
    states: Mutex<Vec<Names>>,
    begun: AtomicUsize,
    acknowledged: AtomicUsize,
    is_over: AtomicBool,
}

struct Worker {
    pool: PathBuf,
    home: PathBuf,
    log: Arc<Log>,
    numbers: Numbers,
    next: u64,
}

impl Worker {
    fn at(&self, words: &str) -> Lovol {
        lovol(words).env("LOVOL_POOL", &self.pool)
    }

    fn run(mut self) {
        while !self.log.is_over.load(Ordering::SeqCst) {
            let state = self.log.states.lock().unwrap().last().unwrap().clone();
            let (words, after) = self.choose(&state);
            // A snapshot's content is its own number, durable in the guest before it is taken.
            std::fs::write(self.home.join("number"), self.next.to_string()).unwrap();
            sh(&format!("sync {}/number", self.home.display()));
            self.log.states.lock().unwrap().push(after);
            self.log.begun.fetch_add(1, Ordering::SeqCst);
            self.at(&words).ok_any();
            self.log.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A verb that can succeed, and what is there after it.
    fn choose(&mut self, state: &Names) -> (String, Names) {
        self.next += 1;
        let number = self.next;
        let mut after = state.clone();
        let snapshots: Vec<&String> = state
            .iter()
            .filter(|name| name.starts_with("home@"))
            .collect();
        let others: Vec<&String> = state.iter().filter(|name| name.starts_with('v')).collect();
        let verb = self.numbers.below(6);
        let mut pick = |names: &[&String]| {
            let count = u64::try_from(names.len()).unwrap();
            names[usize::try_from(self.numbers.below(count)).unwrap()].clone()
        };
        let words = match verb {
            0 | 1 if others.len() < 4 => {
                after.insert(format!("v{number}"));
                format!("create v{number} 16M --fs ext4")
            }
            2 if !others.is_empty() => {
                let old = pick(&others);
                after.remove(&old);
                after.insert(format!("v{number}"));
                format!("rename {old} v{number}")
            }
            3 if !others.is_empty() => {
                let old = pick(&others);
                after.remove(&old);
                format!("delete {old}")
            }
            4 if snapshots.len() > 3 => {
                let old = pick(&snapshots);
                after.remove(&old);
                format!("delete {old}")
            }
            _ => {
                after.insert(format!("home@{number}"));
                format!("snapshot home@{number}")
            }
        };
        (words, after)
    }
}

/// The disk, its pool, and a volume in it that is written to.
struct Bed {
    outer: TestPool,
    pool: PathBuf,
    home: PathBuf,
    fs: &'static str,
}

impl Bed {
    fn new(fs: &'static str) -> Self {
        let outer = TestPool::raw();
        let (pool, home) = (outer.dir("inner"), outer.dir("home"));
        outer.sh("truncate -s 3G $POOL/disk; mkfs.xfs -q $POOL/disk; mount $(losetup -f --show --direct-io=on $POOL/disk) $TEMP/inner");
        let at = |words: &str| lovol(words).env("LOVOL_POOL", &pool);
        at("init").ok_any();
        at(&format!("create home 320M --fs {fs}")).ok_any();
        at("mount home").arg(&home).ok("");
        Self {
            outer,
            pool,
            home,
            fs,
        }
    }

    /// Cuts the power, looks at what is there, and compares.
    fn cut(&self, log: &Log, number: u64) {
        let before = log.acknowledged.load(Ordering::SeqCst);
        self.outer.sh("cp --reflink=always $POOL/disk $POOL/cut");
        let after = log.begun.load(Ordering::SeqCst);
        let dir = self.outer.dir("cut");
        self.outer.sh("mount -o loop,nouuid $POOL/cut $TEMP/cut");
        let at = |words: &str| lovol(words).env("LOVOL_POOL", &dir);
        at("check --repair").ok("");
        let found: Names = at("list -a --raw --no-header -o name")
            .ok_any()
            .lines()
            .map(str::to_owned)
            .collect();
        let states = log.states.lock().unwrap()[before..=after].to_vec();
        assert!(
            states.contains(&found),
            "cut {number}: {found:#?} is none of {states:#?}"
        );
        self.look_into_newest(&found, &dir);
        // A copy of the mount table in another test's namespace may hold the view for a moment.
        wait_until("the cut is unmounted", Duration::from_secs(60), || {
            self.outer
                .sh("umount $TEMP/cut 2> /dev/null && echo gone || true")
                == "gone"
        });
        self.outer.sh("rm $POOL/cut");
    }

    /// The newest snapshot holds its own number, and its filesystem is whole after log replay.
    fn look_into_newest(&self, found: &Names, pool: &PathBuf) {
        let numbers = found
            .iter()
            .filter_map(|name| name.strip_prefix("home@")?.parse::<u64>().ok());
        let Some(newest) = numbers.max() else { return };
        let at = |words: &str| lovol(words).env("LOVOL_POOL", pool);
        let view = self.outer.dir("view");
        at(&format!("mount home@{newest}")).arg(&view).ok("");
        assert_eq!(
            self.outer.sh("cat $TEMP/view/number; umount $TEMP/view"),
            newest.to_string()
        );
        at(&format!("clone home@{newest} checked")).ok_any();
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

fn cuts(fs: &'static str, count: u64) {
    let seed = from_env("LOVOL_SEED", 1);
    let bed = Bed::new(fs);
    let log = Arc::new(Log::default());
    log.states
        .lock()
        .unwrap()
        .push(Names::from(["home".to_owned()]));
    let worker = Worker {
        pool: bed.pool.clone(),
        home: bed.home.clone(),
        log: Arc::clone(&log),
        numbers: Numbers(seed),
        next: 0,
    };
    let working = std::thread::spawn(move || worker.run());
    let mut numbers = Numbers(!seed);
    for number in 0..count {
        // At random moments: how long it takes until the next cut is part of the randomness.
        std::thread::sleep(Duration::from_millis(numbers.below(200)));
        assert!(!working.is_finished(), "the worker failed");
        let tried = tally(&format!("power cuts, {fs} guest"), 1);
        bed.cut(&log, number);
        tried.survived();
    }
    log.is_over.store(true, Ordering::SeqCst);
    working.join().unwrap();
    lovol("check").env("LOVOL_POOL", &bed.pool).ok("");
}

#[test]
fn after_a_power_cut_what_was_acknowledged_is_there_xfs() {
    cuts("xfs", from_env("LOVOL_CUTS", 20).div_ceil(3));
}

#[test]
fn after_a_power_cut_what_was_acknowledged_is_there_ext4() {
    cuts("ext4", from_env("LOVOL_CUTS", 20).div_ceil(3));
}

#[test]
fn after_a_power_cut_what_was_acknowledged_is_there_btrfs() {
    cuts("btrfs", from_env("LOVOL_CUTS", 20).div_ceil(3));
}
