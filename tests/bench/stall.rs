//! How long somebody who writes 4 KiB and syncs, all the time, has to wait at worst while a
//! snapshot is taken, and how much of that work gets done meanwhile: by one clone inside a freeze, by
//! lovol, by lovol where the kernel does not let it follow what is written, by btrfs.

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
    /// The writer's writes per second, while the process ran.
    rate: f64,
}

/// Beyond so many extents a run takes minutes: one FICLONE is measured once, and untracked, for which
/// there is no goal there, nothing.
const MANY: u64 = 200_000;

/// What one run measures, in the volume and in the subvolume.
struct Run {
    /// While nothing is taken: the disk's own moods.
    volume: Cost,
    single: Option<Cost>,
    lovol: Cost,
    untracked: Option<Cost>,
    /// Nothing again, in the subvolume.
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
    println!("\n== {kind} writer: {image} extents in the image, {file} in the subvolume");
    println!("stall, frozen, total: ms; rate: writes per second meanwhile");
    println!(
        "{:>6} | {:^15} | {:^15} | {:^31} | {:^23} | {:<7} | {:^15}",
        "",
        "nothing",
        "one FICLONE",
        "lovol snapshot",
        "the same, untracked",
        "nothing",
        "btrfs snapshot"
    );
    row(
        "run",
        &[
            "stall", "rate", "stall", "total", "stall", "frozen", "total", "rate", "stall",
            "frozen", "total", "stall", "stall", "total",
        ],
    );
    let runs: Vec<Run> = settings
        .runs()
        .map(|number| {
            let run = measure_once(bed, kind, number, image < MANY);
            run.print(&(number + 1).to_string());
            run
        })
        .collect();
    Run::median(&runs).print("median");
    runs
}

/// How long the writer is looked at in each measurement, at least: a worst case depends on how long
/// one looks.  What comes after a snapshot, with the first writes to what is shared now, counts too.
const WINDOW: Duration = Duration::from_secs(3);

/// One writer at a time, as both share one disk.
fn measure_once(bed: &Bed, kind: Kind, number: usize, is_quick: bool) -> Run {
    let wait = || {
        sleep(QUIET);
        None
    };
    let name = format!("{kind}{number}");

    let writer = Writer::start(&bed.volume, kind);
    let volume = cost(&writer, WINDOW, wait);
    let single = (is_quick || number == 0).then(|| {
        cost(&writer, WINDOW, || {
            clone_in_freeze(bed, &name);
            None
        })
    });
    let lovol = cost(&writer, WINDOW, || {
        Some(timed(&mut bed.lovol_snapshot(&name)))
    });
    let untracked = is_quick.then(|| {
        let name = format!("{name}-untracked");
        cost(&writer, WINDOW, || {
            Some(timed(&mut bed.lovol_snapshot_untracked(&name)))
        })
    });
    drop(writer);

    let writer = Writer::start(&bed.subvolume, kind);
    let subvolume = cost(&writer, WINDOW, wait);
    // As long as at lovol, which takes its time: the disk has its moods as well.
    let window = WINDOW.max(lovol.total);
    let btrfs = cost(&writer, window, || {
        Some(timed(&mut bed.btrfs_snapshot(&name)))
    });
    drop(writer);
    Run {
        volume,
        single,
        lovol,
        untracked,
        subvolume,
        btrfs,
    }
}

/// What `work` costs, looked at for so long at least; it may know its own time and what it printed.
fn cost(
    writer: &Writer,
    window: Duration,
    work: impl FnOnce() -> Option<(Duration, String)>,
) -> Cost {
    sleep(PAUSE);
    writer.forget();
    let before = writer.count();
    let started = Instant::now();
    let (total, printed) = work().unwrap_or_else(|| (started.elapsed(), String::new()));
    let done = u32::try_from(writer.count() - before).unwrap();
    let rate = f64::from(done) / started.elapsed().as_secs_f64();
    sleep(window.saturating_sub(started.elapsed()));
    Cost {
        stall: writer.worst(),
        total,
        frozen: frozen(&printed),
        rate,
    }
}

/// How long lovol says that it froze the volume.
fn frozen(printed: &str) -> Duration {
    let json: serde_json::Value = serde_json::from_str(printed).unwrap_or_default();
    let microseconds = json["snapshots"][0]["frozen_us"].as_u64();
    Duration::from_micros(microseconds.unwrap_or_default())
}

impl Cost {
    fn median(costs: &[Self]) -> Self {
        let times = |time: fn(&Self) -> Duration| median(costs.iter().map(time));
        Self {
            stall: times(|cost| cost.stall),
            total: times(|cost| cost.total),
            frozen: times(|cost| cost.frozen),
            rate: median(costs.iter().map(|cost| cost.rate)),
        }
    }
}

impl Run {
    fn median(runs: &[Self]) -> Self {
        let some = |which: fn(&Self) -> Option<Cost>| {
            let costs: Vec<Cost> = runs.iter().filter_map(which).collect();
            (!costs.is_empty()).then(|| Cost::median(&costs))
        };
        let of =
            |which: fn(&Self) -> Cost| Cost::median(&runs.iter().map(which).collect::<Vec<_>>());
        Self {
            volume: of(|run| run.volume),
            single: some(|run| run.single),
            lovol: of(|run| run.lovol),
            untracked: some(|run| run.untracked),
            subvolume: of(|run| run.subvolume),
            btrfs: of(|run| run.btrfs),
        }
    }

    fn print(&self, name: &str) {
        let rate = |cost: &Cost| format!("{:.0}", cost.rate);
        let of = |cost: &Option<Cost>, time: fn(&Cost) -> Duration| match cost {
            Some(cost) => ms(time(cost)),
            None => "-".to_owned(),
        };
        row(
            name,
            &[
                ms(self.volume.stall),
                rate(&self.volume),
                of(&self.single, |single| single.stall),
                of(&self.single, |single| single.total),
                ms(self.lovol.stall),
                ms(self.lovol.frozen),
                ms(self.lovol.total),
                rate(&self.lovol),
                of(&self.untracked, |cost| cost.stall),
                of(&self.untracked, |cost| cost.frozen),
                of(&self.untracked, |cost| cost.total),
                ms(self.subvolume.stall),
                ms(self.btrfs.stall),
                ms(self.btrfs.total),
            ],
        );
    }
}

/// Where a line has a bar: before these cells.
const BARS: [usize; 6] = [0, 2, 4, 8, 11, 12];

fn row<T: std::fmt::Display>(name: &str, cells: &[T; 14]) {
    print!("{name:>6}");
    for (at, cell) in cells.iter().enumerate() {
        let bar = if BARS.contains(&at) { " |" } else { "" };
        print!("{bar} {cell:>7}");
    }
    println!();
}

fn judge(extents: u64, kind: Kind, runs: &[Run], goals: &mut Goals) {
    let Run {
        volume,
        single,
        lovol,
        untracked,
        btrfs,
        ..
    } = Run::median(runs);
    let less = single.map_or(0.0, |single| times(single.stall, lovol.stall));
    let more = times(lovol.stall, btrfs.stall);
    let more_untracked = untracked.map_or(0.0, |untracked| times(untracked.stall, btrfs.stall));
    let slower = times(lovol.total, btrfs.total);
    let share = 100.0 * lovol.rate / volume.rate;
    println!("lovol's stall is {less:.1} times less than one FICLONE's, {more:.1} times btrfs's");
    if untracked.is_some() {
        println!("({more_untracked:.1} times untracked)");
    }
    println!("Its whole process takes {slower:.1} times as long as btrfs's, and leaves the writer");
    println!("{share:.0} % of its writes meanwhile.");

    let what = |what: &str| format!("{extents} extents, {kind}: {what}");
    if extents <= 100 {
        goals.at_most(what("whole process, lovol / btrfs"), slower, 3.0, "x");
    }
    if extents >= 100_000 {
        goals.at_least(what("stall of one FICLONE / of lovol"), less, 20.0, "x");
        goals.at_most(what("stall of lovol / of btrfs"), more, 2.0, "x");
        goals.at_least(what("writes meanwhile / with nothing"), share, 50.0, "%");
    }
    if extents == 100_000 {
        let untracked = what("stall of lovol, untracked / of btrfs");
        goals.at_most(untracked, more_untracked, 6.0, "x");
    }
}
