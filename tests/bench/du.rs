//! How long `lovol du` takes, first and again, compared with reading the extent maps alone, and with
//! `btrfs filesystem du` of as many snapshots of the same content.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lovol::sys::extents::Reader;
use nix::sys::resource::{UsageWho, getrusage};

use crate::bed::Bed;
use crate::goals::Goals;
use crate::numbers::{ms, timed, times};
use crate::random;
use crate::settings::Settings;

const SNAPSHOTS: u32 = 100;

const BLOCK: u64 = 4096;

/// Of each hundred blocks, so many are written between two snapshots.
const PERCENT: u64 = 1;

pub(crate) fn run(settings: &Settings, goals: &mut Goals) {
    let extents = settings.extents.iter().copied().max().unwrap_or_default();
    let bed = Bed::new(extents);
    let mut state = 3;
    for number in 0..SNAPSHOTS {
        for dir in [&bed.volume, &bed.subvolume] {
            scribble(&dir.join("data"), extents, &mut state);
        }
        timed(&mut bed.lovol_snapshot(&format!("du{number}")));
        timed(&mut bed.btrfs_snapshot(&format!("du{number}")));
    }
    println!("\n== du: {SNAPSHOTS} snapshots of {extents} extents");
    let maps = read_maps(bed.pool.path());
    let first = lovol_du(&bed);
    let second = lovol_du(&bed);
    let memory = getrusage(UsageWho::RUSAGE_CHILDREN).map_or(0, |usage| usage.max_rss()) / 1024;
    let btrfs = btrfs_du(&bed);
    println!("reading the maps alone: {} ms", ms(maps));
    println!(
        "lovol du: {} ms, again: {} ms, {memory} MiB at most",
        ms(first),
        ms(second)
    );
    println!("btrfs filesystem du -s: {} ms", ms(btrfs));
    println!(
        "lovol's is {:.1} times btrfs's, again {:.2} times",
        times(first, btrfs),
        times(second, btrfs)
    );
    goals.at_most(
        "du / reading the extent maps alone",
        times(first, maps),
        2.0,
        "x",
    );
    goals.at_least("du / du again", times(first, second), 20.0, "x");
    #[allow(clippy::cast_precision_loss, reason = "some hundreds")]
    goals.at_most("memory of du", memory as f64, 200.0, "MiB");
}

fn scribble(path: &Path, blocks: u64, state: &mut u64) {
    let file = File::options().write(true).open(path).unwrap();
    for _ in 0..blocks * PERCENT / 100 {
        file.write_all_at(&[0x77; 4096], random::next(state) % blocks * BLOCK)
            .unwrap();
    }
    file.sync_all().unwrap();
}

/// What any program must do that looks at all of them.
fn read_maps(pool: &Path) -> Duration {
    let started = Instant::now();
    let mut images = vec![pool.join("volumes/home.img")];
    let snapshots = fs::read_dir(pool.join("snapshots/home")).unwrap();
    images.extend(snapshots.map(|entry| entry.unwrap().path()));
    for image in images {
        let file = File::open(image).unwrap();
        let mut reader = Reader::new(&file, 1);
        while reader.next_piece().unwrap().is_some() {}
    }
    started.elapsed()
}

fn lovol_du(bed: &Bed) -> Duration {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lovol"));
    command
        .args(["du", "-a"])
        .env("LOVOL_POOL", bed.pool.path());
    timed(&mut command).0
}

fn btrfs_du(bed: &Bed) -> Duration {
    let parent = bed.subvolume.parent().unwrap();
    let mut command = Command::new("btrfs");
    command.args(["filesystem", "du", "-s"]);
    let entries = fs::read_dir(parent).unwrap();
    command.args(entries.map(|entry| entry.unwrap().path()));
    timed(&mut command).0
}
