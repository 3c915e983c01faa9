//! What XFS's hints on the size of extents (`extsize` and `cowextsize`, xfs_io(8)) do to images that
//! are written at random and snapshotted all the time: how many extents they have, what room they
//! take, how fast their guests are.
//!
//! The volumes of one table are written in turn, so that what else the machine does hits all alike.
//! They are small, as what counts is which share of a file is written between two snapshots.

use std::process::Command;
use std::time::Duration;

use crate::fragmented::{Fragmented, Hints};
use crate::goals::Goals;
use crate::numbers::{median, timed, times};
use crate::settings::Settings;
use crate::support::TestPool;

const GIB: u64 = 1 << 30;

/// The first is what the others are compared with: none.
const HINTS: [Hints; 9] = [
    Hints::NONE,
    Hints::cow("4k"),
    Hints::cow("64k"),
    Hints::cow("256k"),
    Hints::cow("1m"),
    Hints::cow("2m"),
    Hints::all("64k"),
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
/// that is not attached, and those before Linux 6.12 every five minutes with one that is idle.
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
        snapshots(fs, SPREAD, settings);
        snapshots(fs, DENSE, settings);
        fill(fs, settings);
    }
    snapshots("ext4", SPREAD_GIVEN_BACK, settings);
}

/// What was measured of one volume.
#[derive(Default)]
struct Costs {
    writes: Vec<Duration>,
    snapshots: Vec<Duration>,
    reads: Vec<Duration>,
    /// What the pool lost in the first round, and in all.
    first: u64,
    room: u64,
}

/// A round of writes, a snapshot, and again.
fn snapshots(fs: &str, pattern: Pattern, settings: &Settings) {
    let pool = TestPool::sized(64 * GIB);
    let mut all: Vec<(Fragmented, Costs)> = HINTS
        .iter()
        .enumerate()
        .map(|(number, hints)| {
            let volume = Fragmented::new(&pool, &format!("v{number}"), fs, *hints);
            volume.fill();
            timed(&mut snapshot(&pool, &volume, "first"));
            (volume, Costs::default())
        })
        .collect();
    for round in 0..pattern.rounds {
        for (volume, costs) in &mut all {
            write_and_snapshot(&pool, volume, costs, pattern, round);
        }
    }
    read_all(&mut all, settings);

    let Pattern { name, rounds, .. } = pattern;
    println!(
        "\n== {fs} guest, {rounds} snapshots, between two of them random 4 KiB writes to {name}"
    );
    print([
        "extsize",
        "cowextsize",
        "extents/GiB",
        "in snapshot",
        "allocated",
        "room, first",
        "room",
        "writes/s",
        "read",
        "snapshot",
    ]);
    let written = pattern.writes * Fragmented::BLOCK;
    for (volume, costs) in &all {
        let base = &all[0].1;
        let last = format!("s{}", rounds - 1);
        print([
            volume.hints.extsize.to_owned(),
            volume.hints.cowextsize.to_owned(),
            per_gib(volume.extents()),
            per_gib(Fragmented::extents_of(
                &pool.snapshot_image(&volume.name, &last),
            )),
            percent(volume.allocated(), Fragmented::SIZE),
            ratio(costs.first, written),
            ratio(costs.room, written * rounds as u64),
            speed(&costs.writes, &base.writes),
            speed(&costs.reads, &base.reads),
            // The first ones have little to clone.
            slowness(
                &costs.snapshots[rounds - 5..],
                &base.snapshots[rounds - 5..],
            ),
        ]);
    }
}

fn write_and_snapshot(
    pool: &TestPool,
    volume: &mut Fragmented,
    costs: &mut Costs,
    pattern: Pattern,
    round: usize,
) {
    let free = pool.free_bytes();
    costs
        .writes
        .push(volume.write(pattern.writes, pattern.within));
    if pattern.gives_back {
        pool.sh("sync -f $POOL; xfs_spaceman -c 'prealloc -s' $POOL");
    }
    let name = format!("s{round}");
    costs
        .snapshots
        .push(timed(&mut snapshot(pool, volume, &name)).0);
    let lost = free.saturating_sub(pool.free_bytes());
    costs.room += lost;
    if round == 0 {
        costs.first = lost;
    }
}

fn snapshot(pool: &TestPool, volume: &Fragmented, name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lovol"));
    command
        .args(["snapshot", &format!("{}@{name}", volume.name)])
        .env("LOVOL_POOL", pool.path());
    command
}

/// Each block of a new file is written once, in any order, without any snapshot.
fn fill(fs: &str, settings: &Settings) {
    let pool = TestPool::sized(64 * GIB);
    let hints = HINTS
        .iter()
        .filter(|hints| hints.cowextsize == Hints::NONE.cowextsize);
    let mut all: Vec<(Fragmented, Costs)> = hints
        .enumerate()
        .map(|(number, hints)| {
            let volume = Fragmented::new(&pool, &format!("v{number}"), fs, *hints);
            (volume, Costs::default())
        })
        .collect();
    for part in 0..16 {
        for (volume, costs) in &mut all {
            costs.writes.push(volume.write_part(part, 16));
        }
    }
    read_all(&mut all, settings);

    println!("\n== {fs} guest, no snapshot, random 4 KiB writes to each block of a new file");
    print([
        "extsize",
        "cowextsize",
        "extents/GiB",
        "",
        "allocated",
        "",
        "",
        "writes/s",
        "read",
        "",
    ]);
    for (volume, costs) in &all {
        let base = &all[0].1;
        print([
            volume.hints.extsize.to_owned(),
            volume.hints.cowextsize.to_owned(),
            per_gib(volume.extents()),
            String::new(),
            percent(volume.allocated(), Fragmented::SIZE),
            String::new(),
            String::new(),
            speed(&costs.writes, &base.writes),
            speed(&costs.reads, &base.reads),
            String::new(),
        ]);
    }
}

fn read_all(all: &mut [(Fragmented, Costs)], settings: &Settings) {
    for _ in settings.runs() {
        for (volume, costs) in &mut *all {
            costs.reads.push(volume.read());
        }
    }
}

fn print<T: std::fmt::Display>(cells: [T; 10]) {
    let [extsize, cowextsize, rest @ ..] = cells;
    let rest = rest.map(|cell| format!("{cell:>12}"));
    println!("{extsize:>7} {cowextsize:>10} {}", rest.join(""));
}

fn per_gib(extents: u64) -> String {
    (extents * GIB / Fragmented::SIZE).to_string()
}

fn percent(part: u64, whole: u64) -> String {
    format!("{} %", part * 100 / whole)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a ratio of sizes that are far from 2^52"
)]
fn ratio(part: u64, whole: u64) -> String {
    format!("{:.1}x", part as f64 / whole as f64)
}

/// How fast, compared with what another did at about the same moments.
fn speed(own: &[Duration], others: &[Duration]) -> String {
    let ratios = own
        .iter()
        .zip(others)
        .map(|(own, other)| times(*other, *own));
    format!("{:.2}x", median(ratios))
}

/// How long it took, compared in the same way.
fn slowness(own: &[Duration], others: &[Duration]) -> String {
    speed(others, own)
}
