//! Which round of a loop it was that failed.

use std::io::Write;

/// Says what it was about if the test fails while it lives.
#[must_use = "it says nothing once it is dropped"]
pub(crate) struct Round(String);

impl Round {
    pub(crate) fn of(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        if std::thread::panicking() {
            writeln!(std::io::stderr(), "it failed in this round: {}", self.0).ok();
        }
    }
}
