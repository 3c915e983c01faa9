//! How short lovol's stalls are, how fast its volumes and its lists: ratios, all from one run.
//!
//! ```text
//! make bench                                   everything
//! cargo bench --bench stall -- list fio        only these; see SECTIONS
//! LOVOL_BENCH_RUNS=9                           the medians are of so many runs (5)
//! LOVOL_BENCH_EXTENTS=10,1000000               for so many extents (10,10000,100000)
//! ```
//!
//! It needs what the tests need, measures the release binary, and leaves nothing behind.  Nothing
//! else should run on the machine meanwhile.  A missed goal is printed, and is no failure.

#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark prints, and what goes wrong ends it"
)]

mod bed;
mod du;
mod first_writes;
mod fragmented;
mod fragments;
mod goals;
mod list;
mod numbers;
mod random;
mod settings;
mod single;
mod small;
mod stall;
mod throughput;
mod writer;

#[path = "../support/mod.rs"]
mod support;

use goals::Goals;
use settings::Settings;

type Section = fn(&Settings, &mut Goals);

const SECTIONS: [(&str, Section); 6] = [
    ("stall", stall::run),
    ("small", small::run),
    ("fio", throughput::run),
    ("list", list::run),
    ("fragments", fragments::run),
    ("du", du::run),
];

fn main() {
    support::require_root();
    let settings = Settings::from_env();
    // cargo itself passes --bench.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let mut goals = Goals::default();
    for (name, run) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|want| want == name) {
            run(&settings, &mut goals);
        }
    }
    goals.print();
}
