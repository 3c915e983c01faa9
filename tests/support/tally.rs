//! What a long run has tried, for the table that `make torture` prints.
//!
//! ```ignore
//! let tried = tally("power cuts, xfs guest", 1);   // before anything can go wrong
//! bed.cut();                                       // fails, and so the case is lost
//! tried.survived();
//! ```

use std::io::Write;

/// Cases that are being tried: lost, unless they are said to have survived.
#[must_use = "what is not said to have survived counts as lost"]
pub(crate) struct Tried {
    what: String,
    cases: usize,
}

/// Notes that so many cases are tried now.
pub(crate) fn tally(what: &str, cases: usize) -> Tried {
    note("tried", what, &cases.to_string());
    Tried {
        what: what.to_owned(),
        cases,
    }
}

impl Tried {
    /// All of them went well.
    pub(crate) fn survived(self) {
        note("survived", &self.what, &self.cases.to_string());
    }

    /// It was no case after all: what was to happen did not happen.
    pub(crate) fn never_was(self) {
        note("tried", &self.what, &format!("-{}", self.cases));
    }
}

/// A line of `$LOVOL_TALLY`: `tried 1 power cuts, xfs guest`, separated by tabs.
fn note(column: &str, what: &str, cases: &str) {
    let Some(file) = std::env::var_os("LOVOL_TALLY") else {
        return;
    };
    let mut options = std::fs::File::options();
    let mut file = options.append(true).create(true).open(file).unwrap();
    // One write: others append to it at the same time.
    let line = format!("{column}\t{cases}\t{what}\n");
    file.write_all(line.as_bytes()).unwrap();
}
