//! What the environment may change.

use std::env;
use std::ops::Range;

/// How much is measured.
pub(crate) struct Settings {
    runs: usize,
    /// How many extents the images have.
    pub(crate) extents: Vec<u64>,
}

impl Settings {
    pub(crate) fn from_env() -> Self {
        let runs = env::var("LOVOL_BENCH_RUNS").unwrap_or_else(|_| "5".into());
        let extents = env::var("LOVOL_BENCH_EXTENTS").unwrap_or_else(|_| "10,10000,100000".into());
        let settings = Self {
            runs: runs.parse().expect("LOVOL_BENCH_RUNS is a number"),
            extents: extents
                .split(',')
                .map(|number| {
                    number
                        .trim()
                        .parse()
                        .expect("LOVOL_BENCH_EXTENTS is a list of numbers, with commas")
                })
                .collect(),
        };
        assert!(settings.runs > 0, "LOVOL_BENCH_RUNS is 1 or more");
        settings
    }

    /// The numbers of the runs.
    pub(crate) fn runs(&self) -> Range<usize> {
        0..self.runs
    }
}
