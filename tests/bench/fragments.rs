//! What XFS's hints on the size of extents (`extsize` and `cowextsize`, xfs_io(8)) do to images that
//! are written at random and snapshotted all the time: how many extents they have, what room they
//! take, how fast their guests are.
//!
//! The volumes of one table are written in turn, so that what else the machine does hits all alike.
//! They are small, as what counts is which share of a file is written between two snapshots.

use std::process::Command;
use std::time::Duration;

use crate::first_writes;
use crate::fragmented::{Fragmented, Hints};
use crate::goals::Goals;
use crate::numbers::{per_gib, percent, ratio, speed, timed};
use crate::settings::Settings;
use crate::support::TestPool;

const GIB: u64 = 1 << 30;

/// The first is what the others are compared with: none.
const HINTS: [Hints; 10] = [
    Hints::NONE,
    Hints::cow("4k"),
    Hints::cow("64k"),
    Hints::cow("256k"),
    Hints::cow("1m"),
    Hints::cow("2m"),
    Hints::all("64k"),
    Hints::all("128k"),
    Hints::all("256k"),
    Hints::all("1m"),
];

/// How a guest writes between two snapshots.
#[derive(Clone, Copy)]
struct Pattern {
    name: &'static str,
    /// How many times it is repeated.
    rounds: usize,
    /// How many blocks are written each time...
    writes: u64,
    /// ...somewhere in so many.
    within: u64,
    /// What the kernel has set aside for the next writes is given back before each snapshot.
    gives_back: bool,
}

/// A fiftieth of the file, anywhere: the worst there is.
const SPREAD: Pattern = Pattern {
    name: "2 % of the file",
    rounds: 50,
    writes: Fragmented::BLOCKS / 50,
    within: Fragmented::BLOCKS,
    gives_back: false,
};

/// The same on a kernel that takes back what is set aside, as all do sooner or later with an image
/// that is not attached, and older ones every five minutes with one that is idle.
const SPREAD_GIVEN_BACK: Pattern = Pattern {
    name: "2 % of the file, nothing is kept set aside",
    gives_back: true,
    ..SPREAD
};

/// A part of the file all over: a database that is small and busy.
const DENSE: Pattern = Pattern {
    name: "a 16th of the file, twice over",
    rounds: 12,
    writes: Fragmented::BLOCKS / 8,
    within: Fragmented::BLOCKS / 16,
    gives_back: false,
};

pub(crate) fn run(settings: &Settings, _goals: &mut Goals) {
    for fs in ["ext4", "xfs"] {
        first_writes::table(fs, settings);
        overwrites(fs, DENSE, settings);
        overwrites(fs, SPREAD, settings);
    }
    overwrites("ext4", SPREAD_GIVEN_BACK, settings);
}

/// What was measured of one volume.
struct Overwritten {
    volume: Fragmented,
    writes: Vec<Duration>,
    snapshots: Vec<Duration>,
    reads: Vec<Duration>,
    /// What the pool lost in the first round, and in all.
    first: u64,
    room: u64,
}

/// A round of writes, a snapshot, and again.
fn overwrites(fs: &str, pattern: Pattern, settings: &Settings) {
    let pool = TestPool::sized(64 * GIB);
    let mut all: Vec<Overwritten> = HINTS
        .iter()
        .enumerate()
        .map(|(number, hints)| Overwritten::new(&pool, &format!("v{number}"), fs, *hints))
        .collect();
    for round in 0..pattern.rounds {
        for one in &mut all {
            one.write_and_snapshot(&pool, pattern, round);
        }
    }
    for _ in settings.runs() {
        for one in &mut all {
            one.reads.push(one.volume.read());
        }
    }

    let Pattern { name, rounds, .. } = pattern;
    println!(
        "\n== {fs} guest, {rounds} snapshots, between two of them random 4 KiB writes to {name}"
    );
    println!("extsize cowextsize extents/GiB allocated first room  room writes/s  read snapshot");
    for one in &all {
        one.print(pattern, &all[0]);
    }
}

impl Overwritten {
    fn new(pool: &TestPool, name: &str, fs: &str, hints: Hints) -> Self {
        let volume = Fragmented::new(pool, name, fs, hints);
        volume.fill();
        timed(&mut snapshot(pool, &volume, "first"));
        Self {
            volume,
            writes: Vec::new(),
            snapshots: Vec::new(),
            reads: Vec::new(),
            first: 0,
            room: 0,
        }
    }

    fn write_and_snapshot(&mut self, pool: &TestPool, pattern: Pattern, round: usize) {
        let free = pool.free_bytes();
        let time = self.volume.write(pattern.writes, pattern.within);
        self.writes.push(time);
        if pattern.gives_back {
            pool.sh("sync -f $POOL; xfs_spaceman -c 'prealloc -s' $POOL");
        }
        let (time, _) = timed(&mut snapshot(pool, &self.volume, &format!("s{round}")));
        self.snapshots.push(time);
        let lost = free.saturating_sub(pool.free_bytes());
        self.room += lost;
        if round == 0 {
            self.first = lost;
        }
    }

    fn print(&self, pattern: Pattern, base: &Self) {
        let written = pattern.writes * Fragmented::BLOCK;
        // What is given back belongs to all volumes.
        let room = |part, whole| {
            if pattern.gives_back {
                "-".to_owned()
            } else {
                ratio(part, whole)
            }
        };
        let Hints {
            extsize,
            cowextsize,
        } = self.volume.hints;
        // The first snapshots have little to clone.
        let late = pattern.rounds - 5;
        println!(
            "{extsize:>7} {cowextsize:>10} {:>11} {:>9} {:>10} {:>5} {:>8} {:>5} {:>8}",
            per_gib(self.volume.extents(), Fragmented::SIZE),
            percent(self.volume.allocated(), Fragmented::SIZE),
            room(self.first, written),
            room(self.room, written * pattern.rounds as u64),
            speed(&self.writes, &base.writes),
            speed(&self.reads, &base.reads),
            // How long it takes, not how fast it is.
            speed(&base.snapshots[late..], &self.snapshots[late..]),
        );
    }
}

fn snapshot(pool: &TestPool, volume: &Fragmented, name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lovol"));
    command
        .args(["snapshot", &format!("{}@{name}", volume.name)])
        .env("LOVOL_POOL", pool.path());
    command
}
