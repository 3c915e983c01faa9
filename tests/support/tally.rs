//! What a long run has tried, for the table that `make torture` prints.

use std::io::Write;

/// Notes that so many cases were tried and survived: a test that loses one fails before.
pub(crate) fn tally(what: &str, cases: usize) {
    let Some(file) = std::env::var_os("LOVOL_TALLY") else {
        return;
    };
    let mut file = std::fs::File::options()
        .append(true)
        .create(true)
        .open(file)
        .unwrap();
    writeln!(file, "{cases}\t{what}").unwrap();
}
