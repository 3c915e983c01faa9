//! The whole `lovol snapshot` of a small volume that nobody writes to.

use std::thread::sleep;
use std::time::Duration;

use crate::bed::Bed;
use crate::goals::Goals;
use crate::numbers::{median, ms, timed};
use crate::settings::Settings;

const EXTENTS: u64 = 10;

/// Between two snapshots: a second freeze right after another is quicker.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) fn run(settings: &Settings, goals: &mut Goals) {
    let bed = Bed::new(EXTENTS);
    let (image, _) = bed.extents();
    println!("\n== nobody writes, {image} extents: whole process (ms)");

    let btrfs = measure(settings, "btrfs", |name| {
        timed(&mut bed.btrfs_snapshot(name)).0
    });
    let mounted = measure(settings, "mounted", |name| {
        timed(&mut bed.lovol_snapshot(name)).0
    });
    bed.pool.lovol("umount home").ok_any();
    let unmounted = measure(settings, "unmounted", |name| {
        timed(&mut bed.lovol_snapshot(name)).0
    });
    println!(
        "btrfs {}, lovol mounted {}, lovol unmounted {}",
        ms(btrfs),
        ms(mounted),
        ms(unmounted)
    );

    let limit = |what: &str, time: Duration, goals: &mut Goals| {
        goals.at_most(
            format!("{EXTENTS} extents, {what}: whole lovol snapshot"),
            time.as_secs_f64() * 1000.0,
            60.0,
            "ms",
        );
    };
    limit("mounted, idle", mounted, goals);
    limit("not mounted", unmounted, goals);
}

fn measure(settings: &Settings, what: &str, snapshot: impl Fn(&str) -> Duration) -> Duration {
    let all: Vec<Duration> = settings
        .runs()
        .map(|number| {
            sleep(PAUSE);
            snapshot(&format!("{what}{number}"))
        })
        .collect();
    let shown: Vec<String> = all.iter().map(|time| ms(*time)).collect();
    println!("{what:>10}: {}", shown.join("  "));
    median(all)
}
