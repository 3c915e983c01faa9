//! A crowd: 64 lovols at a time, with random verbs, on one pool.  In every other round some of them
//! are killed.
//!
//! All the time a watcher looks at the loop devices: no image is attached read-write twice.  Each
//! lovol does its work, or fails with a reason, and none waits without bound.  After each round
//! index and files are the same and nothing is frozen; when there was killing, `check --repair` may be
//! needed for that, once.  Then what survived is mounted, and holds what it should.
//!
//! 2 rounds of 10 seconds here; `LOVOL_CROWD_SECONDS=300 LOVOL_SEED=7` for the long run.

mod settle;
mod verbs;
mod watcher;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{Finished, Lovol, Numbers, Round, TestPool, Thaw, Writer, from_env, tally};
use verbs::Chooser;
use watcher::Watcher;

/// How many lovols run at a time.
const CROWD: u64 = 64;

const ROUND: Duration = Duration::from_secs(10);

/// Waits of 30 seconds for a few locks one after the other, on a machine with much else to do.
const LIMIT: Duration = Duration::from_secs(240);

/// Volumes that are mounted and written to all the time.
const HOMES: [&str; 3] = ["btrfs", "ext4", "xfs"];

/// Images outside the pool that volumes are made of: with known content.
const SEEDS: [(&str, &str, &str); 3] = [
    ("ext4", "24M", "mkfs.ext4 -q -F"),
    ("xfs", "300M", "mkfs.xfs -q"),
    ("btrfs", "128M", "mkfs.btrfs -q"),
];

/// A pool in a directory of an XFS, and beside it what volumes are made of.
struct Bed {
    writers: Vec<Writer>,
    thaws: Vec<Thaw>,
    outer: TestPool,
    pool: PathBuf,
}

impl Bed {
    fn new(numbers: &mut Numbers) -> Self {
        let outer = TestPool::raw();
        let pool = outer.path().join("pool");
        let mut bed = Self {
            writers: Vec::new(),
            thaws: Vec::new(),
            outer,
            pool,
        };
        bed.lovol("init").arg(&bed.pool).ok_any();
        for seed in SEEDS {
            bed.make_seed(seed, numbers);
        }
        let line = "lovol:e0 /nowhere lovol x-lovol.size=16M,x-lovol.fs=ext4\n";
        std::fs::write(bed.temp().join("fstab"), line).unwrap();
        for number in 0..verbs::DIRS {
            bed.outer.dir(&format!("mnt/d{number}"));
        }
        for fs in HOMES {
            let dir = bed.outer.dir(fs);
            bed.lovol(&format!("create {fs} 400M --fs {fs}")).ok_any();
            bed.lovol(&format!("mount {fs}")).arg(&dir).ok("");
            bed.writers.push(Writer::start(&dir));
        }
        bed
    }

    /// A home that is frozen when a round should long be over is thawed.
    fn thaw_later(&mut self) {
        let later = |fs: &&str| Thaw::later(self.temp().join(fs), ROUND + LIMIT * 2);
        self.thaws = HOMES.iter().map(later).collect();
    }

    /// Some files, and a list of their checksums.
    fn make_seed(&self, (fs, size, mkfs): (&str, &str, &str), numbers: &mut Numbers) {
        let dir = self.outer.dir("seed");
        let image = self.seed(fs);
        let shown = image.display();
        self.outer.sh(&format!(
            "truncate -s {size} {shown}; {mkfs} {shown}; mount -o loop {shown} {}",
            dir.display()
        ));
        for number in 0..8 {
            let length = usize::try_from(numbers.below(200_000)).unwrap();
            std::fs::write(dir.join(format!("f{number}")), numbers.bytes(length)).unwrap();
        }
        self.outer
            .sh("cd $TEMP/seed; sha256sum f* > manifest; cd ..; umount seed");
    }

    fn seed(&self, fs: &str) -> PathBuf {
        self.outer.path().join(format!("seed-{fs}.img"))
    }

    fn lovol(&self, words: &str) -> Lovol {
        self.outer.lovol(words).env("LOVOL_POOL", &self.pool)
    }

    fn temp(&self) -> &Path {
        self.outer.temp()
    }

    /// Fails if a home is frozen, or was until the test thawed it.
    #[track_caller]
    fn must_be_thawed(&mut self) {
        for (writer, thaw) in self.writers.iter().zip(&mut self.thaws) {
            writer.must_go_on();
            assert!(!thaw.has_come(), "it was frozen until the test thawed it");
        }
    }
}

/// What has become of the lovols.
#[derive(Default)]
struct Outcomes {
    succeeded: usize,
    killed: usize,
    /// What the others said, with `#` for each number.
    failed: BTreeMap<String, usize>,
    wrong: Vec<String>,
}

impl Outcomes {
    fn add(&mut self, finished: &Finished, was_killed: bool) {
        match (finished.code(), finished.signal()) {
            (Some(0), _) => self.succeeded += 1,
            (None, Some(9)) if was_killed => self.killed += 1,
            (Some(code @ 1..=4), _) if has_reason(&finished.stderr) => {
                let said = finished.stderr.lines().find(|line| is_reason(line));
                let said = said.unwrap().replace(|c: char| c.is_ascii_digit(), "#");
                *self.failed.entry(format!("{code} {said}")).or_default() += 1;
            }
            _ => self.wrong.push(finished.to_string()),
        }
    }

    /// What was said how often; `LOVOL_CROWD_LOG` names a file that gets it too.
    fn report(&self, round: u64) -> String {
        let Self {
            succeeded,
            killed,
            failed,
            ..
        } = self;
        let report = format!("{round}: {succeeded} succeeded, {killed} killed, {failed:#?}\n");
        if let Some(log) = std::env::var_os("LOVOL_CROWD_LOG") {
            let mut log = File::options().append(true).create(true).open(log).unwrap();
            log.write_all(report.as_bytes()).unwrap();
        }
        report
    }

    fn all(&self) -> usize {
        self.succeeded + self.killed + self.failed.values().sum::<usize>() + self.wrong.len()
    }
}

fn is_reason(line: &str) -> bool {
    line.strip_prefix("error: ")
        .is_some_and(|reason| !reason.is_empty())
}

/// One error, in lovol's words; or one for each thing that was not done, and how many those are.
fn has_reason(stderr: &str) -> bool {
    let reasons = stderr.lines().filter(|line| is_reason(line)).count();
    let is_told = |count: usize| match count {
        1 => stderr.contains("error: 1 thing was not done"),
        _ => stderr.contains(&format!("error: {count} things were not done")),
    };
    (reasons == 1 || reasons > 1 && is_told(reasons - 1)) && !stderr.contains("panicked")
}

/// Runs the crowd for one round.
fn run(bed: &Bed, round: u64, is_killing: bool) -> Outcomes {
    let outcomes = Mutex::new(Outcomes::default());
    let end = Instant::now() + ROUND;
    let seed = from_env("LOVOL_SEED", 1);
    std::thread::scope(|scope| {
        for member in 0..CROWD {
            let (bed, outcomes) = (&bed, &outcomes);
            scope.spawn(move || {
                let numbers = Numbers(seed ^ (round * CROWD + member) << 32);
                let mut chooser = Chooser::new(bed, numbers);
                while Instant::now() < end {
                    let (finished, was_killed) = run_one(&mut chooser, is_killing);
                    outcomes.lock().unwrap().add(&finished, was_killed);
                }
            });
        }
    });
    outcomes.into_inner().unwrap()
}

/// Runs one lovol, which may be killed at any moment if there is killing.
fn run_one(chooser: &mut Chooser<'_>, is_killing: bool) -> (Finished, bool) {
    let command = chooser.choose();
    let numbers = &mut chooser.numbers;
    let is_killed = is_killing && numbers.below(4) == 0;
    let mut running = command.start();
    if is_killed {
        let longest = 1 << (2 + numbers.below(10));
        std::thread::sleep(Duration::from_millis(numbers.below(longest)));
        running.signal(Signal::SIGKILL);
    }
    (running.finish_within(LIMIT), is_killed)
}

#[test]
fn a_crowd_does_no_harm() {
    let duration = Duration::from_secs(from_env("LOVOL_CROWD_SECONDS", 20));
    let mut bed = Bed::new(&mut Numbers(from_env("LOVOL_SEED", 1)));
    let watcher = Watcher::start(&bed.pool);
    let rounds = duration.as_secs().div_ceil(2 * ROUND.as_secs()).max(1) * 2;
    for round in 0..rounds {
        let is_killing = round % 2 == 1;
        bed.thaw_later();
        let outcomes = run(&bed, round, is_killing);
        let tried = tally("lovols in a crowd of 64", outcomes.all());
        let _round = Round::of(outcomes.report(round));
        assert!(
            outcomes.wrong.is_empty(),
            "{} of {} ended as none should:\n{}",
            outcomes.wrong.len(),
            outcomes.all(),
            outcomes.wrong[..outcomes.wrong.len().min(5)].join("\n")
        );
        assert!(outcomes.succeeded > 0 && (outcomes.killed > 0) == is_killing);
        // A check in the middle of it finds nothing, unless somebody was killed.
        let has_found = outcomes.failed.keys().any(|said| said.contains("wrong"));
        assert!(is_killing || !has_found, "a check has found something");
        bed.must_be_thawed();
        settle::check(&bed, is_killing);
        if is_killing {
            settle::release(&bed);
            settle::look_into_all(&bed);
        }
        watcher.must_have_seen_nothing();
        tried.survived();
    }
    settle::look_into_trash(&bed);
    watcher.stop();
}
