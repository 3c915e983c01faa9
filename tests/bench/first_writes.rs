//! What the hints do where a guest writes for the first time: nothing is shared, everything is
//! allocated.

use std::time::Duration;

use crate::fragmented::{Fragmented, Hints};
use crate::numbers::{per_gib, percent, speed};
use crate::settings::Settings;
use crate::support::TestPool;

const GIB: u64 = 1 << 30;

/// The first is what the others are compared with: none.
const SIZES: [&str; 5] = ["0", "64k", "128k", "256k", "1m"];

/// In so many parts the volumes are written in turn.
const PARTS: u64 = 16;

/// The volume has room for so many other files.
const OTHERS: usize = 10;

/// What was measured of one volume.
struct Written {
    volume: Fragmented,
    random: Vec<Duration>,
    extents: u64,
    allocated: u64,
    reads: Vec<Duration>,
    sequential: Vec<Duration>,
}

/// Each block of a new file is written once, in any order; then other files from begin to end.
pub(crate) fn table(fs: &str, settings: &Settings) {
    let pool = TestPool::sized(64 * GIB);
    let mut all: Vec<Written> = SIZES
        .iter()
        .enumerate()
        .map(|(number, size)| Written {
            volume: Fragmented::new(&pool, &format!("v{number}"), fs, Hints::all(size)),
            random: Vec::new(),
            extents: 0,
            allocated: 0,
            reads: Vec::new(),
            sequential: Vec::new(),
        })
        .collect();
    for part in 0..PARTS {
        for one in &mut all {
            one.random.push(one.volume.write_part(part, PARTS));
        }
    }
    for one in &mut all {
        one.extents = one.volume.extents();
        one.allocated = one.volume.allocated();
    }
    for run in settings.runs().take(OTHERS) {
        for one in &mut all {
            one.reads.push(one.volume.read());
            one.sequential
                .push(one.volume.write_another(&format!("s{run}")));
        }
    }

    println!("\n== {fs} guest, no snapshot, random 4 KiB writes to each block of a new file");
    println!("extsize extents/GiB allocated writes/s  read sequential writes");
    for one in &all {
        println!(
            "{:>7} {:>11} {:>9} {:>8} {:>5} {:>17}",
            one.volume.hints.extsize,
            per_gib(one.extents, Fragmented::SIZE),
            percent(one.allocated, Fragmented::SIZE),
            speed(&one.random, &all[0].random),
            speed(&one.reads, &all[0].reads),
            speed(&one.sequential, &all[0].sequential),
        );
    }
}
