//! How long somebody who writes 4 KiB and syncs, all the time, has to wait at worst while a
//! snapshot is taken: by one clone inside a freeze, by lovol, by btrfs.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::bed::Bed;
use crate::goals::Goals;
use crate::numbers::{median, ms, timed, times};
use crate::settings::Settings;
use crate::single::clone_in_freeze;
use crate::writer::{Kind, Writer};

/// Between two measurements: what the one before has left to do is not the next one's.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the writer is watched while nothing is taken.
const QUIET: Duration = Duration::from_secs(1);

/// What one snapshot cost.
#[derive(Clone, Copy)]
struct Cost {
    /// The writer's longest wait.
    stall: Duration,
    /// The whole process.
    total: Duration,
    /// What lovol says.
    frozen: Duration,
}

/// What one run measures, in the volume and in the subvolume.
struct Run {
    /// While nothing is taken: the disk's own moods.
    volume: Cost,
    single: Cost,
    lovol: Cost,
    /// The same in the subvolume.
    subvolume: Cost,
    btrfs: Cost,
}

pub(crate) fn run(settings: &Settings, goals: &mut Goals) {
    for extents in &settings.extents {
        let bed = Bed::new(*extents);
        for kind in Kind::ALL {
            let runs = measure(&bed, kind, settings);
            judge(*extents, kind, &runs, goals);
        }
    }
}

fn measure(bed: &Bed, kind: Kind, settings: &Settings) -> Vec<Run> {
    let (image, file) = bed.extents();
    println!("\n== {kind} writer: {image} extents in the image, {file} in the subvolume (ms)");
    println!(
        "{:>6} | {:<7} | {:<17} | {:<24} | {:<7} | {:<15}",
        "", "nothing", "one FICLONE", "lovol snapshot", "nothing", "btrfs snapshot"
    );
    row(
        "run",
        [
            "stall", "stall", "total", "stall", "frozen", "total", "stall", "stall", "total",
        ],
    );
    let runs: Vec<Run> = settings
        .runs()
        .map(|number| {
            let run = measure_once(bed, kind, number);
            run.print(&(number + 1).to_string());
            run
        })
        .collect();
    Run::median(&runs).print("median");
    runs
}

/// How long the writer is looked at in each measurement, at least.
const WINDOW: Duration = Duration::from_secs(3);

/// One writer at a time, as both share one disk.
fn measure_once(bed: &Bed, kind: Kind, number: usize) -> Run {
    let wait = || {
        sleep(QUIET);
        None
    };
    let name = format!("{kind}{number}");

    let writer = Writer::start(&bed.volume, kind);
    let volume = cost(&writer, wait);
    let single = cost(&writer, || {
        clone_in_freeze(bed, &name);
        None
    });
    let lovol = cost(&writer, || Some(timed(&mut bed.lovol_snapshot(&name))));
    drop(writer);

    let writer = Writer::start(&bed.subvolume, kind);
    let subvolume = cost(&writer, wait);
    let btrfs = cost(&writer, || Some(timed(&mut bed.btrfs_snapshot(&name))));
    drop(writer);
    Run {
        volume,
        single,
        lovol,
        subvolume,
        btrfs,
    }
}

/// What `work` costs; it may know its own time and what it printed.
fn cost(writer: &Writer, work: impl FnOnce() -> Option<(Duration, String)>) -> Cost {
    sleep(PAUSE);
    writer.forget();
    let started = Instant::now();
    let (total, printed) = work().unwrap_or_else(|| (started.elapsed(), String::new()));
    // A worst case depends on how long one looks, and what a snapshot costs comes in part after it,
    // with the first writes to what is shared now.
    sleep(WINDOW.saturating_sub(started.elapsed()));
    Cost {
        stall: writer.worst(),
        total,
        frozen: frozen(&printed),
    }
}

/// How long lovol says that it froze the volume.
fn frozen(printed: &str) -> Duration {
    let json: serde_json::Value = serde_json::from_str(printed).unwrap_or_default();
    let microseconds = json["snapshots"][0]["frozen_us"].as_u64();
    Duration::from_micros(microseconds.unwrap_or_default())
}

impl Run {
    fn median(runs: &[Self]) -> Self {
        let of = |which: fn(&Self) -> Cost| Cost {
            stall: median(runs.iter().map(|run| which(run).stall)),
            total: median(runs.iter().map(|run| which(run).total)),
            frozen: median(runs.iter().map(|run| which(run).frozen)),
        };
        Self {
            volume: of(|run| run.volume),
            single: of(|run| run.single),
            lovol: of(|run| run.lovol),
            subvolume: of(|run| run.subvolume),
            btrfs: of(|run| run.btrfs),
        }
    }

    fn print(&self, name: &str) {
        row(
            name,
            [
                self.volume.stall,
                self.single.stall,
                self.single.total,
                self.lovol.stall,
                self.lovol.frozen,
                self.lovol.total,
                self.subvolume.stall,
                self.btrfs.stall,
                self.btrfs.total,
            ]
            .map(ms),
        );
    }
}

fn row<T: std::fmt::Display>(name: &str, cells: [T; 9]) {
    let [
        volume,
        single,
        single_total,
        lovol,
        frozen,
        total,
        subvolume,
        btrfs,
        btrfs_total,
    ] = cells;
    println!(
        "{name:>6} | {volume:>7} | {single:>8} {single_total:>8} | {lovol:>7} {frozen:>7} {total:>8} \
         | {subvolume:>7} | {btrfs:>7} {btrfs_total:>7}"
    );
}

fn judge(extents: u64, kind: Kind, runs: &[Run], goals: &mut Goals) {
    let Run {
        single,
        lovol,
        btrfs,
        ..
    } = Run::median(runs);
    let less = times(single.stall, lovol.stall);
    let more = times(lovol.stall, btrfs.stall);
    let slower = times(lovol.total, btrfs.total);
    println!("lovol's stall is {less:.1} times less than one FICLONE's, {more:.1} times btrfs's;");
    println!("its whole process takes {slower:.1} times as long as btrfs's.");

    if extents <= 100 {
        let what = format!("{extents} extents, {kind}: whole process, lovol / btrfs");
        goals.at_most(what, slower, 3.0, "x");
    }
    if extents == 100_000 {
        let what = format!("{extents} extents, {kind}: stall of one FICLONE / of lovol");
        goals.at_least(what, less, 20.0, "x");
        let what = format!("{extents} extents, {kind}: stall of lovol / of btrfs");
        goals.at_most(what, more, 6.0, "x");
    }
}
